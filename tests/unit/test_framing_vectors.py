"""Every captured frame gives what its source lists: whole, byte by byte, and with other bytes around it."""

import json
from pathlib import Path

import pytest

from protocols.dlms import mbus, wrapper
from protocols.dlms.framing import BadFrame, StreamReader
from protocols.dlms.hdlc import FrameType, HdlcFrame, HdlcReader, encode_frame
from protocols.dlms.hdlc_parameters import LinkParameters
from protocols.dlms.hdlc_segments import HdlcApdu, HdlcAssembler
from protocols.dlms.scan import scan

FOLDER = Path(__file__).parents[1] / "vectors" / "framing"


def entries(*framings: str) -> list:
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        content = json.loads(path.read_text())
        assert content["license"], path
        assert content["source_repo"], path
        found += [
            pytest.param(entry, id=entry["id"])
            for entry in content["entries"]
            if entry.get("framing", "hdlc") in framings
        ]
    return found


def drain(reader: StreamReader) -> list:
    items = []
    while (item := reader.next()) is not None:
        items.append(item)
    return items


def three_ways(make, data: bytes) -> list:
    """Read whole, byte by byte and with trailing bytes; the frames must be the same."""
    whole = make()
    whole.feed(data)
    items = drain(whole)
    single = make()
    slowly = []
    for index in range(len(data)):
        single.feed(data[index : index + 1])
        slowly += drain(single)
    assert slowly == items
    trailing = make()
    trailing.feed(data + b"\x00\x55")
    assert [item for item in drain(trailing) if not isinstance(item, BadFrame)] == items
    return items


@pytest.mark.parametrize("entry", entries("hdlc"))
def test_hdlc_frames(entry):
    raw = [bytes.fromhex(text) for text in entry["frames_hex"]]
    frames = three_ways(HdlcReader, b"".join(raw))
    assert [type(frame) for frame in frames] == [HdlcFrame] * len(raw)
    for frame, original in zip(frames, raw, strict=True):
        again = encode_frame(
            frame.destination, frame.source, frame.control, frame.information, segmented=frame.segmented
        )
        assert again == original
    if "information_hex" in entry:
        assert [frame.information.hex() for frame in frames] == entry["information_hex"]
    if "type" in entry:
        assert frames[0].type == entry["type"]
    if "apdu_hex" in entry:
        assembler = HdlcAssembler()
        apdus = [result for frame in frames for result in assembler.add(frame)]
        assert all(isinstance(apdu, HdlcApdu) for apdu in apdus)
        assert [apdu.apdu.hex() for apdu in apdus] == entry["apdu_hex"]


def test_frames_share_a_flag():
    """The captured frames one after the other, with one flag between them instead of two."""
    raw = [bytes.fromhex(text) for entry in entries("hdlc") for text in entry.values[0]["frames_hex"]]
    frames = three_ways(HdlcReader, b"\x7e" + b"\x7e".join(frame[1:-1] for frame in raw) + b"\x7e")
    assert len(frames) == len(raw)
    assert all(isinstance(frame, HdlcFrame) for frame in frames)


def test_ua_parameters():
    (entry,) = [param.values[0] for param in entries("hdlc") if param.values[0].get("type") == FrameType.UA]
    information = bytes.fromhex(entry["information_hex"][0])
    parameters = LinkParameters.from_bytes(information)
    assert parameters == LinkParameters(154, 154, 1, 1)
    assert parameters.to_bytes() == information


@pytest.mark.parametrize("entry", entries("mbus"))
def test_mbus_frames(entry):
    raw = [bytes.fromhex(text) for text in entry["frames_hex"]]
    frames = three_ways(mbus.MBusReader, b"".join(raw))
    assert [mbus.encode_frame(frame) for frame in frames] == raw
    assembler = mbus.MBusAssembler()
    apdus = [result for frame in frames for result in assembler.add(frame)]
    assert [apdu.apdu.hex() for apdu in apdus] == entry["apdu_hex"]
    assert mbus.encode_apdu(apdus[0].apdu, stsap=apdus[0].stsap, dtsap=apdus[0].dtsap) == raw


@pytest.mark.parametrize("entry", entries("wrapper"))
@pytest.mark.parametrize("resync", [False, True])
def test_wrapper_frames(entry, resync):
    (raw,) = (bytes.fromhex(text) for text in entry["frames_hex"])
    reader = wrapper.WrapperReader(resync=resync)
    for index in range(len(raw)):
        assert reader.next() is None
        reader.feed(raw[index : index + 1])
    frame = reader.next()
    assert (frame.source, frame.destination, frame.apdu.hex()) == (1, 1, entry["apdu_hex"][0])
    assert wrapper.encode(frame.source, frame.destination, frame.apdu) == raw


@pytest.mark.parametrize("entry", entries("wrapper header"))
def test_wrapper_header(entry):
    raw = bytes.fromhex(entry["frames_hex"][0])
    assert wrapper.HEADER.unpack(raw) == tuple(
        entry[key] for key in ("version", "source", "destination", "length")
    )
    (item,) = scan(raw)
    assert item.reason == "cut short: 8 of 78 bytes"


@pytest.mark.parametrize("entry", entries("hdlc", "mbus", "wrapper"))
@pytest.mark.parametrize("around", ["", "3f0d0a"])
def test_scan_finds_the_framing(entry, around):
    noise = bytes.fromhex(around)
    items = scan(noise + b"".join(bytes.fromhex(text) for text in entry["frames_hex"]) + noise)
    assert [item.data for item in items if not item.ok] == ([noise, noise] if noise else [])
    good = [item for item in items if item.ok]
    assert {item.framing for item in good} == {entry.get("framing", "hdlc")}
    if "apdu_hex" in entry:
        assert [item.payload.hex() for item in good] == entry["apdu_hex"]


def test_scan_of_all_captures_in_one_string():
    params = [param.values[0] for param in entries("hdlc", "mbus", "wrapper")]
    items = scan(b"".join(bytes.fromhex(text) for entry in params for text in entry["frames_hex"]))
    assert all(item.ok for item in items)
    assert sum(len(item.frames) for item in items) == sum(len(entry["frames_hex"]) for entry in params)
