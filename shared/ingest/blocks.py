"""A body becomes blocks: pieces that end where a line ends, each parsed by itself.

A quoted cell may hold a newline, so a block is cut at a newline before which the quotes are even. A stray
quote would make every later newline look quoted: then the last newline is taken, and the block's own line
splitter (lines.py) sorts it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shared.errors import NotCsv

#: About 13,000 wide rows, which make a message of some 220 KB.
BLOCK_BYTES = 2 * 1024 * 1024
#: No row of telemetry is that long: a file with such a line is something else.
MAX_LINE_BYTES = 1024 * 1024
#: How many newlines are tried, from the end of a block backwards, before its quotes are given up on.
_CUT_TRIES = 1000

#: Reads up to n bytes of the body; empty at its end.
Read = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file."""

    data: bytes
    #: The number, in the file, of its first line; the header is line 1.
    first_line: int
    #: How many lines it has, empty ones and an unfinished last one included.
    lines: int
    index: int


def count_lines(data: bytes) -> int:
    """Count lines, an unfinished last one included."""
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def find_cut(data: bytes) -> int:
    """Find where the last whole row ends; 0 where none does."""
    end = data.rfind(b"\n") + 1
    if b'"' not in data:
        return end
    cut, odd = end, data.count(b'"', 0, end) % 2
    for _ in range(_CUT_TRIES):
        if not cut or not odd:
            break
        previous = data.rfind(b"\n", 0, cut - 1) + 1
        odd = (odd + data.count(b'"', previous, cut)) % 2
        cut = previous
    return cut if cut and not odd else end


def iter_blocks(read: Read, carry: bytes, first_line: int, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """Cut a body into blocks; `carry` is what was read of it already and comes first.

    Raises:
        NotCsv: A line is longer than any row could be.
    """
    index, line, at_end = 0, first_line, False
    data = carry
    while not at_end:
        parts, have = [data], len(data)
        # What is left over may be longer than a block: then it goes on growing until its line ends.
        want = size if have < size else have + size
        while have < want and not at_end:
            piece = read(want - have)
            parts.append(piece)
            have += len(piece)
            at_end = not piece
        data = b"".join(parts)
        cut = len(data) if at_end else find_cut(data)
        if cut == 0 and len(data) > MAX_LINE_BYTES:
            raise NotCsv(f"line {line} is longer than {MAX_LINE_BYTES} bytes: this is no telemetry CSV")
        block, data = data[:cut], data[cut:]
        if block:
            lines = count_lines(block)
            yield Block(block, line, lines, index)
            line, index = line + lines, index + 1
