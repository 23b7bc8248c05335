import pytest

from schemas.address import AddressError, GatewayAddress, LinkAddress, Scheme


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
        (
            "tcp://dc:4059?gateway=0:0A0B",
            LinkAddress(Scheme.TCP, "dc", 4059, gateway=GatewayAddress(0, b"\x0a\x0b")),
        ),
        (
            "via:?server=1&gateway=255:00",
            LinkAddress(Scheme.VIA, server=1, gateway=GatewayAddress(255, b"\0")),
        ),
        ("modbus+tcp://10.0.0.9?unit=0", LinkAddress(Scheme.MODBUS_TCP, "10.0.0.9", 502, unit=0)),
        ("modbus+rtu+tcp://gw:4001?unit=7", LinkAddress(Scheme.MODBUS_RTU_TCP, "gw", 4001, unit=7)),
        (
            "modbus+rtu:///dev/ttyS1?baud=19200&unit=247&parity=E",
            LinkAddress(Scheme.MODBUS_RTU, device="/dev/ttyS1", baud=19200, unit=247, parity="E"),
        ),
        (
            "dlt645+mqtt:///plant/gw7?meter=000000000001",
            LinkAddress(Scheme.DLT645_MQTT, device="/plant/gw7", meter="000000000001"),
        ),
        ("p1+tcp://gw:8088", LinkAddress(Scheme.P1_TCP, "gw", 8088)),
        ("iec62056+serial:///dev/ttyUSB1", LinkAddress(Scheme.IEC62056_SERIAL, device="/dev/ttyUSB1")),
        ("mqtt:plug-17", LinkAddress(Scheme.MQTT, identity="plug-17")),
        ("mqtt:a%2Fb", LinkAddress(Scheme.MQTT, identity="a/b")),
        ("mqtt:a%3Fb%23", LinkAddress(Scheme.MQTT, identity="a?b#")),
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
        ("via:", "needs gateway"),
        ("via://dc?gateway=0:00", "no host"),
        ("tcp://h?gateway=0A", "gateway is"),
        ("tcp://h?gateway=256:00", "gateway is"),
        ("tcp://h?gateway=0:", "gateway is"),
        ("tcp://h?gateway=0:0", "gateway is"),
        ("tcp://h?gateway=0:" + "00" * 17, "gateway is"),
        ("modbus+tcp://h?unit=248", "0..247"),
        ("modbus+rtu+tcp://h?unit=1", "no usual port"),
        ("modbus+rtu:///dev/x?parity=n", "N, E or O"),
        ("dlt645+mqtt:///?meter=1", "topics"),
        ("dlt645+tcp://h:1?meter=", "letters and digits"),
        ("mqtt:", "names a device"),
        ("mqtt://broker", "names a device"),
        ("mqtt:x?server=1", "no parameters"),
        (" tcp://h", "blanks"),
        ("tcp://h\n", "blanks"),
    ],
)
def test_what_is_wrong_is_refused_by_name(text, said):
    with pytest.raises(AddressError, match=said):
        LinkAddress.parse(text)


def test_lines_are_shared_and_named_without_the_meter():
    one, other = (LinkAddress.parse(f"modbus+rtu:///dev/ttyS1?unit={unit}") for unit in (1, 2))
    assert one.is_shared
    assert one.line == other.line is not None
    alone = LinkAddress.parse("tcp://10.1.2.3?gateway=0:01")
    assert not alone.is_shared
    assert alone.line is None
