import pytest

from schemas.address import AddressError, LinkAddress, Scheme


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://10.1.2.3:4059", LinkAddress(Scheme.TCP, "10.1.2.3", 4059)),
        ("tcp://meter.example", LinkAddress(Scheme.TCP, "meter.example", 4059)),
        ("tcp://[::1]:5000?server=1&client=16", LinkAddress(Scheme.TCP, "::1", 5000, server=1, client=16)),
        ("udp://10.0.0.1?server=0", LinkAddress(Scheme.UDP, "10.0.0.1", 4059, server=0)),
        ("hdlc+tcp://gw:4001?physical=17", LinkAddress(Scheme.HDLC_TCP, "gw", 4001, physical=17)),
        (
            "hdlc+serial:///dev/ttyUSB0?baud=9600",
            LinkAddress(Scheme.HDLC_SERIAL, device="/dev/ttyUSB0", baud=9600),
        ),
        ("inbound:", LinkAddress(Scheme.INBOUND)),
        ("inbound:?server=1", LinkAddress(Scheme.INBOUND, server=1)),
    ],
)
def test_written_forms_parse_and_come_back(text, expected):
    address = LinkAddress.parse(text)
    assert address == expected
    assert LinkAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with none"),
        ("http://10.1.2.3", "begins with none"),
        ("10.1.2.3:4059", "begins with none"),
        ("tcp://", "names host"),
        ("tcp://h/path", "names host"),
        ("tcp://h:0", "port"),
        ("tcp://h:65536", "ort"),
        ("tcp://h:x", "ort"),
        ("tcp://[::1", "IPv6"),
        ("tcp://u:p@h", "no user"),
        ("tcp://h#x", "fragment"),
        ("tcp://h?server=1&server=2", "twice"),
        ("tcp://h?server=65536", "0..65535"),
        ("tcp://h?server=-1", "0..65535"),
        ("tcp://h?server=", "0..65535"),
        ("tcp://h?server", "tcp:"),
        ("tcp://h?server=١", "0..65535"),
        ("tcp://h?baud=9600", "no 'baud'"),
        ("hdlc+tcp://h", "no usual port"),
        ("hdlc+serial://ttyUSB0", "device"),
        ("hdlc+serial:///", "device"),
        ("inbound://h", "no host"),
        (" tcp://h", "blanks"),
        ("tcp://h\n", "blanks"),
    ],
)
def test_what_is_wrong_is_refused_by_name(text, said):
    with pytest.raises(AddressError, match=said):
        LinkAddress.parse(text)
