"""Send a request body that arrives piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable


async def upload(
    body: AsyncIterator[bytes],
    content_length: int | None,
    write: Callable[[bytes], Awaitable[None]],
) -> None:
    """Write the body, chunked unless a length was announced, and close its source. Raise ValueError
    when the body is not as long as announced, and whatever the body raises."""
    try:
        if content_length is None:
            await _upload_chunks(body, write)
        else:
            await _upload_exactly(body, content_length, write)
    finally:
        if isinstance(body, AsyncGenerator):
            await body.aclose()


async def _upload_chunks(
    body: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[None]]
) -> None:
    async for piece in body:
        if piece:
            await write(b"%x\r\n%b\r\n" % (len(piece), piece))
    await write(b"0\r\n\r\n")


async def _upload_exactly(
    body: AsyncIterator[bytes], content_length: int, write: Callable[[bytes], Awaitable[None]]
) -> None:
    left = content_length
    async for piece in body:
        left -= len(piece)
        if left < 0:
            break
        await write(piece)
    if left:
        raise ValueError(f"The body does not have the {content_length} bytes announced.")
