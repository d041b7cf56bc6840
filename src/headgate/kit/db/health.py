"""Whether the database takes commits, as its last ones showed."""

from __future__ import annotations

from headgate.kit.db.engine import StorageUnavailableError

RETRY_AFTER_SECONDS = 2.0


class DatabaseHealth:
    """Written by the writer's thread, read by everybody.

    `reason` says why commits fail, and is empty while they succeed. `lost` is for good: a flush
    failed, so what the disk has is not known, and only a new process may go on (decision 0007).
    With `displaced` it is because a file of the database was deleted or replaced, so what is
    committed dies with this process (decision 0018). `overgrown` says that the write-ahead log is
    longer than it may be.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.lost = False
        self.displaced = False
        self.overgrown = False

    def fail(self, error: BaseException, *, lost: bool) -> None:
        """A commit failed for want of the storage."""
        self.reason = str(error).strip() or type(error).__name__
        self.lost = self.lost or lost

    def displace(self, reason: str) -> None:
        """Note that a file of the database is not in its place any more."""
        self.reason = reason
        self.lost = self.displaced = True

    def recover(self) -> None:
        """A commit succeeded."""
        if not self.lost:
            self.reason = ""

    @property
    def is_healthy(self) -> bool:
        """Whether what is put now will probably be kept."""
        return not self.reason and not self.overgrown

    def describe(self) -> str | None:
        """What is wrong, in a few words; None when nothing is."""
        if self.reason:
            return f"the database takes no commits: {self.reason}"
        return "the write-ahead log is too long" if self.overgrown else None

    def check(self) -> None:
        """Raise StorageUnavailable while commits fail: what cannot be recorded must not begin."""
        if self.reason or self.overgrown:
            raise StorageUnavailableError(
                "The gateway cannot record calls at present, so it makes none: nothing was sent, "
                "nothing is charged. Try again.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
                should_retry=True,
            )
