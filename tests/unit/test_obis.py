import pytest

from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

IMPORT = Obis(bytes([1, 0, 1, 8, 0, 255]))


@pytest.mark.parametrize(
    "text",
    ["1-0:1.8.0*255", "1-0:1.8.0&255", "1-0:1.8.0.255", "1.0.1.8.0.255", "1-0:1.8.0", "0:1.8.0", "1.8.0",
     "1.8",
     "0100010800FF", "0100010800ff", " 1.8.0 ", "01.8.0", "1.8.0.255"],
)  # fmt: skip
def test_every_written_form_names_the_same_object(text):
    assert Obis.parse(text) == IMPORT


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("F.F", "0-0:97.97.0*255"),
        ("C.1.0", "0-0:96.1.0*255"),
        ("c.1.0", "0-0:96.1.0*255"),
        ("L.1.0", "1-0:98.1.0*255"),
        ("P.1.0*126", "1-0:99.1.0*126"),
        ("1.8.0*01", "1-0:1.8.0*1"),
        ("0-0:0.0.0*0", "0-0:0.0.0*0"),
        ("0.0.0.0.0.0", "0-0:0.0.0*0"),
        ("7-1:3.0.0", "7-1:3.0.0*255"),
    ],
)
def test_groups_left_out_and_zero_groups(text, full):
    assert str(Obis.parse(text)) == full


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.8.0*256", "256-0:1.8.0", "1-0:1.8.0*", "1-0:1.8*255", "1.8.0.0.0", "-1.8.0", "1-0:X.8.0",
     "0100010800", "0100010800FFFF", "1-0:1.8.0*255x", "１.8.0", "1.0.1.8.0.256", "1-0:1.8.0\n1.8.0"],
)  # fmt: skip
def test_what_is_no_code_is_refused(text):
    with pytest.raises(ValueError, match="not an OBIS code"):
        Obis.parse(text)


def test_bytes_there_and_back():
    assert Obis.from_bytes(IMPORT.to_bytes()) == IMPORT
    assert Obis.from_bytes(memoryview(b"\1\0\1\x08\0\xff")) == IMPORT
    assert Obis.parse(str(IMPORT)) == IMPORT
    assert repr(IMPORT) == "Obis('1-0:1.8.0*255')"


def test_wrong_size_is_the_peers_fault_on_the_wire_and_ours_elsewhere():
    with pytest.raises(RemoteProtocolError):
        Obis.from_bytes(b"\0" * 5)
    with pytest.raises(ValueError, match="6 bytes"):
        Obis(b"\0" * 7)


def test_sorted_as_bytes():
    assert min(Obis.parse("2.8.0"), Obis.parse("1.8.1"), Obis.parse("1.8.0")) == IMPORT
