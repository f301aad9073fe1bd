"""HTTP's ``Expect``, as every server of ours answers it."""

from aiohttp import HttpVersion11, web


async def answer_expect(request: web.Request) -> None:
    """Answer ``Expect``. What it is besides ``100-continue`` is passed over (RFC 9110, 10.1.1): it may be any bytes."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # An answer's size is counted from here.
        request.writer.output_size = 0
