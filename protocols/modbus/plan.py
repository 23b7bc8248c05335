"""Which reads fetch the registers wanted: few and large, within what the meter allows.

A request costs a turn-around on the line, a register two bytes, so it pays to read across a gap of a few
registers that nobody wants. No read is longer than the meter allows, touches a forbidden stretch, or splits a
register, whose words would then be of two moments.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from protocols.errors import LocalProtocolError
from schemas.register_model import Forbidden, Reads, Space


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """``count`` registers from ``address`` (as on the wire, from 0) on."""

    space: Space
    address: int
    count: int

    @property
    def end(self) -> int:
        """The address behind the last register."""
        return self.address + self.count


def plan(wanted: Iterable[Span], reads: Reads) -> tuple[Span, ...]:
    """Reads that cover all spans, in order of space and address.

    Raises:
        LocalProtocolError: a span is longer than a read may be, empty, or touches a forbidden stretch.
    """
    blocks: list[Span] = []
    for span in sorted(set(wanted)):
        if not 0 < span.count <= reads.max_words:
            raise LocalProtocolError(f"{span.count} registers at {span.address}: not 1 to {reads.max_words}")
        if _forbidden(span, reads.forbidden):
            raise LocalProtocolError(f"register {span.address} lies in a forbidden stretch")
        last = blocks[-1] if blocks else None
        if last is None or not _joins(last, span, reads):
            blocks.append(span)
        else:
            blocks[-1] = replace(last, count=max(last.end, span.end) - last.address)
    return tuple(blocks)


def _joins(block: Span, span: Span, reads: Reads) -> bool:
    if block.space is not span.space or span.address - block.end > reads.max_gap:
        return False
    if max(block.end, span.end) - block.address > reads.max_words:
        return False
    gap = Span(block.space, block.end, span.address - block.end)
    return gap.count <= 0 or not _forbidden(gap, reads.forbidden)


def _forbidden(span: Span, stretches: tuple[Forbidden, ...]) -> bool:
    return any(
        one.space is span.space and one.first < span.end and span.address <= one.last for one in stretches
    )
