"""Joining and cutting: bounds, order, lost, doubled and reordered general-block-transfer blocks."""

import random

import pytest

from protocols.dlms.apdu.block_transfer import GeneralBlockTransfer
from protocols.dlms.blocks import MAX_WINDOW, BlockJoiner, GbtReceiver, GbtSender, split
from protocols.errors import LocalProtocolError, RemoteProtocolError

MESSAGE = bytes(range(256)) * 5


def test_split() -> None:
    assert split(b"", 4) == [b""]
    assert split(b"12345678", 4) == [b"1234", b"5678"]
    assert split(b"123456789", 4) == [b"1234", b"5678", b"9"]
    with pytest.raises(LocalProtocolError):
        split(b"1", 0)


def test_joiner_joins_in_order() -> None:
    joiner = BlockJoiner()
    assert joiner.add(1, b"ab", last=False) is None
    assert joiner.add(2, b"cd", last=False) is None
    assert joiner.add(3, b"", last=True) == b"abcd"


@pytest.mark.parametrize("number", [0, 1, 3])
def test_joiner_refuses_other_numbers(number: int) -> None:
    joiner = BlockJoiner()
    joiner.add(1, b"ab", last=False)
    with pytest.raises(RemoteProtocolError, match="block 2 is due"):
        joiner.add(number, b"x", last=False)


def test_joiner_is_bounded() -> None:
    joiner = BlockJoiner(limit=10)
    joiner.add(1, b"12345", last=False)
    with pytest.raises(RemoteProtocolError, match="more than 10"):
        joiner.add(2, b"678901", last=True)
    with pytest.raises(RemoteProtocolError, match="empty"):
        BlockJoiner().add(1, b"", last=False)


@pytest.mark.parametrize("window", [1, 2, 5, MAX_WINDOW])
@pytest.mark.parametrize("size", [1, 100, 1279, 1280, 1281])
def test_gbt_without_loss(window: int, size: int) -> None:
    sender, receiver = (
        GbtSender(MESSAGE, block_size=size, window=1),
        GbtReceiver(window=window, next_number=2),
    )
    flight, answers, apdu = sender.start(), 0, None
    while apdu is None:
        assert flight[-1].streaming is False
        assert all(block.streaming for block in flight[:-1])
        for block in flight:
            answer, apdu = receiver.receive(block)
        if answer is not None:
            assert apdu is None
            answers += 1
            assert (answer.block_number, answer.window, answer.data) == (answers + 1, window, b"")
            flight = sender.acknowledged(answer)
            assert all(block.block_number_ack == answer.block_number for block in flight)
    assert apdu == MESSAGE
    assert sender.finished
    assert receiver.receive(flight[-1]) == (None, None)


@pytest.mark.parametrize("seed", range(30))
def test_gbt_over_a_link_that_loses_doubles_and_reorders(seed: int) -> None:
    link = random.Random(seed)
    sender = GbtSender(MESSAGE, block_size=40)
    receiver = GbtReceiver(window=link.choice([1, 3, 8]))
    flight, apdu, rounds = sender.start(), None, 0
    while apdu is None:
        rounds += 1
        assert rounds < 2000
        arriving = [block for block in flight if link.random() > 0.2]
        arriving += [block for block in arriving if link.random() < 0.2]
        link.shuffle(arriving)
        answers = []
        for block in arriving:
            answer, whole = receiver.receive(block)
            apdu = whole if whole is not None else apdu
            answers += [answer] if answer is not None else []
        if apdu is None:
            flight = []
            for answer in answers or [receiver.ask_again()]:
                flight += sender.acknowledged(answer)
            flight = flight or sender.acknowledged(receiver.ask_again())
    assert apdu == MESSAGE


def test_gbt_lost_block_is_asked_for_again() -> None:
    sender, receiver = GbtSender(MESSAGE, block_size=300, window=4), GbtReceiver(window=4)
    one, two, three, four = sender.start()
    assert receiver.receive(one) == (None, None)
    assert receiver.receive(three) == (None, None)
    answer = receiver.receive(four).answer
    assert answer is not None
    assert answer.block_number_ack == 1
    again = sender.acknowledged(answer)
    assert [block.block_number for block in again] == [2, 3, 4, 5]
    assert receiver.receive(two) == (None, None)
    assert receiver.received == 4
    assert receiver.receive(again[-1]).apdu == MESSAGE


def test_gbt_push_streams_and_is_not_answered() -> None:
    sender = GbtSender(MESSAGE, block_size=500, confirmed=False)
    receiver = GbtReceiver(answering=False)
    blocks = sender.start()
    assert [block.window for block in blocks] == [0, 0, 0]
    assert receiver.receive(blocks[1]) == (None, None)
    assert receiver.receive(blocks[2]) == (None, None)
    assert receiver.receive(blocks[0]).apdu == MESSAGE


def block(number: int, data: bytes = b"x", *, last: bool = False) -> GeneralBlockTransfer:
    return GeneralBlockTransfer(last, True, 1, number, 0, data)


def test_gbt_receiver_refuses() -> None:
    with pytest.raises(LocalProtocolError):
        GbtReceiver(window=0)
    with pytest.raises(LocalProtocolError):
        GbtReceiver(window=64)
    with pytest.raises(RemoteProtocolError, match="number 0"):
        GbtReceiver().receive(block(0))
    with pytest.raises(RemoteProtocolError, match="beyond the window"):
        GbtReceiver().receive(block(127))
    with pytest.raises(RemoteProtocolError, match="empty"):
        GbtReceiver().receive(block(1, b""))
    with pytest.raises(RemoteProtocolError, match="more than 3"):
        GbtReceiver(limit=3).receive(block(2, b"1234"))
    receiver = GbtReceiver()
    receiver.receive(block(3, last=True))
    with pytest.raises(RemoteProtocolError, match="already the last"):
        receiver.receive(block(4))
    with pytest.raises(RemoteProtocolError, match="already the last"):
        receiver.receive(block(2, last=True))
    receiver = GbtReceiver()
    receiver.receive(block(3))
    with pytest.raises(RemoteProtocolError, match="later ones came"):
        receiver.receive(block(2, last=True))
    assert receiver.receive(block(3)) == (None, None)
    with pytest.raises(RemoteProtocolError, match="with other bytes"):
        receiver.receive(block(3, b"y"))


def test_gbt_receiver_knows_what_may_come_again() -> None:
    receiver = GbtReceiver(window=3)
    receiver.receive(block(1, b"a"))
    receiver.receive(GeneralBlockTransfer(False, False, 3, 2, 0, b"b"))
    assert receiver.late() == {}
    receiver.receive(GeneralBlockTransfer(False, False, 3, 4, 0, b"d"))
    assert receiver.late() == {(1, b"a"): 1, (2, b"b"): 1, (4, b"d"): 1}
    assert receiver.nudge().block_number_ack == 2
    assert receiver.late()[4, b"d"] == 2


def test_gbt_sender_refuses_what_it_never_sent_and_ignores_what_is_old() -> None:
    sender = GbtSender(MESSAGE, block_size=100, window=3)
    sender.start()
    with pytest.raises(RemoteProtocolError, match="not sent"):
        sender.acknowledged(GeneralBlockTransfer(True, False, 3, 1, 4, b""))
    assert len(sender.acknowledged(GeneralBlockTransfer(True, False, 0, 1, 3, b""))) == 1
    assert sender.acknowledged(GeneralBlockTransfer(True, False, 3, 1, 2, b"")) == []
    with pytest.raises(LocalProtocolError, match="65535"):
        GbtSender(bytes(65536), block_size=1)
