"""Record the health of the database, as its last commits showed it."""

from __future__ import annotations

from headgate.kit.db.engine import StorageUnavailableError

RETRY_AFTER_SECONDS = 2.0


class DatabaseHealth:
    """Record whether commits succeed. Written by the writer's thread, read by everybody.

    `reason` says why commits fail, and is empty while they succeed. `lost` is final: a flush
    failed, so what the disk has is unknown, and only a new process may go on (decision 0007).
    `displaced` means that a file of the database was deleted or replaced, so what is committed dies
    with this process (decision 0018). `overgrown` means that the write-ahead log is longer than
    allowed.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.lost = False
        self.displaced = False
        self.overgrown = False

    def fail(self, error: BaseException, *, lost: bool) -> None:
        self.reason = str(error).strip() or type(error).__name__
        self.lost = self.lost or lost

    def displace(self, reason: str) -> None:
        """Record that a file of the database is no longer in its place."""
        self.reason = reason
        self.lost = self.displaced = True

    def recover(self) -> None:
        if not self.lost:
            self.reason = ""

    @property
    def is_healthy(self) -> bool:
        """Return whether a commit would probably succeed now."""
        return not self.reason and not self.overgrown

    def describe(self) -> str | None:
        """Return what is wrong, in a few words; None when nothing is."""
        if self.reason:
            return f"the database takes no commits: {self.reason}"
        return "the write-ahead log is too long" if self.overgrown else None

    def check(self) -> None:
        """Raise `StorageUnavailableError` while commits fail. A call that could not be recorded
        must not begin."""
        if self.reason or self.overgrown:
            raise StorageUnavailableError(
                "The gateway cannot record calls at present, so it makes none: nothing was sent, "
                "nothing is charged. Try again.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
                should_retry=True,
            )
