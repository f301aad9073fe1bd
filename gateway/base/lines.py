"""Lines of files that strangers made, with what editors and old systems leave in them, read alike everywhere."""

from collections.abc import Iterable, Iterator
from typing import Final

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_END: Final = b" \t\r\n\x1a"


def filled_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the number (from 1) and bytes of each line that is not blank.

    Without a byte order mark before the first line, and without blanks, line ends and Ctrl-Z (DOS's end of file) at
    the end of each.
    """
    for number, line in enumerate(lines, 1):
        bare = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        if bare := bare.rstrip(_END):
            yield number, bare
