"""The block transfers of a recording, of both kinds, each joined by itself whoever else speaks meanwhile.

A transfer that has begun is one message with its first block's offset. What stops short is told as it is.
"""

from collections.abc import Callable
from typing import NamedTuple

from protocols.dlms import decode_tree as trees
from protocols.dlms.apdu import (
    Apdu,
    GeneralBlockTransfer,
    GetResponseWithBlock,
    SetRequestWithBlock,
    SetRequestWithFirstBlock,
)
from protocols.dlms.blocks import BlockJoiner, GbtReceiver
from protocols.dlms.decode_message import Builder
from protocols.errors import RemoteProtocolError


class Part(NamedTuple):
    """A block of a GET answer or SET request: of which service, and whether it begins the transfer."""

    message: GetResponseWithBlock | SetRequestWithFirstBlock | SetRequestWithBlock
    service: str
    begins: bool
    data: bytes


def part_of(message: Apdu) -> Part | None:
    """What block of a service this APDU is, None for anything else."""
    match message:
        case GetResponseWithBlock(result=bytes() as data):
            return Part(message, "get", message.block_number == 1, data)
        case SetRequestWithFirstBlock(data=data):
            return Part(message, "set", True, data)
        case SetRequestWithBlock(data=data):
            return Part(message, "set", False, data)
        case _:
            return None


class Joined(NamedTuple):
    """The whole of a transfer; ``first`` is the service's first block, None of a general block transfer."""

    builder: Builder
    whole: bytes
    first: Apdu | None = None


class _Blocks(NamedTuple):
    """A service-specific block transfer that has begun; ``first`` is its first block."""

    first: Apdu
    builder: Builder
    joiner: BlockJoiner


class _Transfer(NamedTuple):
    """A general block transfer that has begun. ``first``: the data of block 1, to know it again."""

    builder: Builder
    receiver: GbtReceiver
    first: bytes | None = None


class Transfers:
    """All transfers that have begun; ``emit`` is given each message that no APDU comes of."""

    def __init__(self, emit: Callable[[Builder], None]) -> None:
        self._emit = emit
        self._blocks: dict[tuple[object, str, int], _Blocks] = {}
        self._transfers: dict[object, _Transfer] = {}

    def finish(self) -> None:
        """Tell of what has begun and did not end: a lone block as it is, transfers that stop as bad."""
        for transfer in self._transfers.values():
            self._lost(transfer, "cut short: the last block is missing")
        for blocks in self._blocks.values():
            self._unfinished(blocks, "cut short: the last block is missing")
        self._transfers.clear()
        self._blocks.clear()

    def general(self, builder: Builder, block: GeneralBlockTransfer) -> Joined | None:
        """Take one block of a general block transfer; the APDU that it completes, if any."""
        key = (builder.peers, builder.source)
        if not block.data and not block.last:  # acknowledges blocks of the other side
            builder.tree = trees.of_apdu(block)
            self._emit(builder)
            return None
        transfer = self._transfers.get(key)
        if (
            transfer is not None
            and block.block_number == 1
            and transfer.first not in (None, block.data)  # else it is sent again
        ):
            self._lost(self._transfers.pop(key), "cut short: a new transfer begins before the last block")
            transfer = None
        if transfer is None:
            transfer = _Transfer(builder, GbtReceiver(answering=False))
        else:
            transfer.builder.join(builder)
        if block.block_number == 1:
            transfer = transfer._replace(first=block.data)
        self._transfers[key] = transfer
        try:
            whole = transfer.receiver.receive(block).apdu
        except RemoteProtocolError as exc:
            self._lost(self._transfers.pop(key), exc.reason)
            return None
        if whole is None:
            return None
        del self._transfers[key]
        transfer.builder.deciphered = True  # offsets count in the joined APDU from here on
        if not whole:
            self._lost(transfer, "the blocks join to nothing")
            return None
        return Joined(transfer.builder, whole)

    def service(self, builder: Builder, part: Part) -> Joined | None:
        """Take one block of a service; the value or list that it completes, if any."""
        message = part.message
        key = (builder.peers, part.service, message.invoke.invoke_id)
        if part.begins and (old := self._blocks.pop(key, None)) is not None:
            self._unfinished(old, "cut short: a new transfer begins before the last block")
        blocks = self._blocks.get(key)
        if blocks is None:
            if not part.begins:
                builder.notes.append(f"block {message.block_number} alone: those before it are not here")
                builder.tree = trees.of_apdu(message)
                self._emit(builder)
                return None
            blocks = self._blocks[key] = _Blocks(message, builder, BlockJoiner())
        else:
            if message.block_number == blocks.joiner.received:
                return None  # sent again
            blocks.builder.join(builder)
        try:
            whole = blocks.joiner.add(message.block_number, part.data, last=message.last)
        except RemoteProtocolError as exc:
            del self._blocks[key]
            self._unfinished(blocks, exc.reason, bad=True)
            return None
        if whole is None:
            return None
        del self._blocks[key]
        blocks.builder.deciphered = True
        if not whole:
            blocks.builder.problem(RemoteProtocolError("the blocks join to nothing"))
            self._emit(blocks.builder)
            return None
        return Joined(blocks.builder, whole, blocks.first)

    def _lost(self, transfer: _Transfer, reason: str) -> None:
        builder = transfer.builder
        builder.problem(RemoteProtocolError(f"general-block-transfer: {reason}"), at=builder.offset)
        builder.tree = {"blocks_in_order": transfer.receiver.received}
        self._emit(builder)

    def _unfinished(self, blocks: _Blocks, reason: str, *, bad: bool = False) -> None:
        """A lone first block is shown as what it is; a transfer that went on and stopped is bad."""
        builder = blocks.builder
        builder.tree = trees.of_apdu(blocks.first)
        if bad or builder.blocks > 1:
            builder.problem(RemoteProtocolError(reason), at=builder.offset)
        else:
            builder.notes.append("the first block alone: those behind it are not here")
        self._emit(builder)
