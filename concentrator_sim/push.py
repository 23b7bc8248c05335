"""What a simulated meter says unasked: its heartbeat, and Data-Notifications with its registers."""

from collections.abc import Callable
from typing import Final

from concentrator_sim.event_log import DESCRIPTORS, TOTAL_POWER_FAILURE
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.meter_clock import stamp_of
from concentrator_sim.object_model import MANAGEMENT_CLIENT
from concentrator_sim.objects import SERIAL_NUMBER
from concentrator_sim.profile import REGISTERS
from concentrator_sim.push_setup import Push
from concentrator_sim.scenario import Framing
from protocols.dlms import axdr, hdlc, wrapper
from protocols.dlms.apdu import notification
from protocols.dlms.association import ServerAssociation
from protocols.dlms.cosem import CLOCK_TIME, LOGICAL_DEVICE_NAME, ScalerUnit
from protocols.dlms.hdlc import HdlcAddress, HdlcFrame, HdlcReader
from protocols.dlms.wrapper import WrapperFrame, WrapperReader
from protocols.errors import LocalProtocolError

#: Around the logical device name, as the head-end's profile of these meters describes it.
HEARTBEAT_PREFIX: Final = b"SIM:"
HEARTBEAT_SUFFIX: Final = b"\r\n"
_WH, _VARH = 30, 32
#: Bytes of an HDLC information field.
_UI_SEGMENT: Final = 128


def heartbeat(meter: SimulatedMeter) -> bytes:
    """What a meter that dials in sends first."""
    return HEARTBEAT_PREFIX + meter.name.encode() + HEARTBEAT_SUFFIX


def notifications(meter: SimulatedMeter, clock: Callable[[], int], *, confirmed: bool = False) -> list[bytes]:
    """The APDUs of one push: an array of structures of OBIS code, value and, for registers, scaler_unit.

    Ciphered where the meter's mode is. More than one only where the meter's PDU size asks for blocks.
    """
    now_s = clock()
    meter.live_until(now_s)
    items = []
    for n, obis in enumerate(REGISTERS):
        value = axdr.u32(meter.consumption.at(n, now_s))
        items.append(_element(obis.raw, value, ScalerUnit(0, _WH if n < 2 else _VARH).encode()))
    return _notify(meter, clock, now_s, items, confirmed=confirmed)


def alarm(
    meter: SimulatedMeter, clock: Callable[[], int], register: int, bits: int, *, confirmed: bool = False
) -> list[bytes]:
    """The APDUs of one pushed alarm: which ``bits`` of alarm register 1 or 2 (place 0 or 1) are new."""
    items = [_element(DESCRIPTORS[register].raw, axdr.u32(bits))]
    return _notify(meter, clock, clock(), items, confirmed=confirmed)


def last_gasp(meter: SimulatedMeter, clock: Callable[[], int]) -> list[bytes]:
    """What a meter says with the last energy of its supply. Nobody can wait for a confirmation then."""
    return alarm(meter, clock, 1, 1 << TOTAL_POWER_FAILURE)


def set_up(meter: SimulatedMeter, clock: Callable[[], int], push: Push) -> list[bytes]:
    """The APDUs of a push that the meter was set up for."""
    return _management(meter, clock).notify(push.body, date_time=push.stamp, confirmed=False)


def _notify(
    meter: SimulatedMeter, clock: Callable[[], int], now_s: int, items: list[axdr.Data], *, confirmed: bool
) -> list[bytes]:
    """A list of elements behind those that tell whose it is, and when."""
    stamp = stamp_of(meter, now_s)
    items = [
        _element(LOGICAL_DEVICE_NAME.obis.raw, axdr.octets(meter.name.encode())),
        _element(SERIAL_NUMBER.raw, axdr.octets(meter.serial.encode())),
        _element(CLOCK_TIME.obis.raw, axdr.octets(stamp)),
        *items,
    ]
    return _management(meter, clock).notify(
        axdr.encode(axdr.array(items)), date_time=stamp, confirmed=confirmed
    )


def _management(meter: SimulatedMeter, clock: Callable[[], int]) -> ServerAssociation:
    association = meter.associate(meter.management, MANAGEMENT_CLIENT, clock)
    if association is None:
        raise LocalProtocolError("a meter always has a management client")
    return association


def _element(obis: bytes, value: axdr.Data, scaler_unit: axdr.Data | None = None) -> axdr.Data:
    parts = (axdr.octets(obis), value)
    return axdr.structure(*parts) if scaler_unit is None else axdr.structure(*parts, scaler_unit)


class ConfirmReader:
    """Looks for the Data-Notification-Confirm in what the head-end answers to a push."""

    def __init__(self, framing: Framing) -> None:
        self._reader: HdlcReader | WrapperReader = (
            HdlcReader() if framing is Framing.HDLC else WrapperReader()
        )

    def feed(self, data: bytes) -> bool:
        """True once the confirmation is there. Raises RemoteProtocolError for what is no answer."""
        self._reader.feed(data)
        while (frame := self._reader.next()) is not None:
            apdu = b""
            if isinstance(frame, WrapperFrame):
                apdu = frame.apdu
            elif isinstance(frame, HdlcFrame):
                apdu = hdlc.split_llc(frame.information)[1]
            if apdu[:1] == bytes((notification.CONFIRM_TAG,)):
                notification.decode_confirm(apdu)
                return True
        return False


def framed(apdu: bytes, framing: Framing, server_sap: int, physical: int) -> bytes:
    """One APDU for the wire: a wrapper frame, or HDLC UI frames, segmented where it is long."""
    if framing is not Framing.HDLC:
        return wrapper.encode(server_sap, MANAGEMENT_CLIENT, apdu)
    own = HdlcAddress(server_sap, physical, wide=max(server_sap, physical) > 0x7F)
    data = hdlc.LLC_RESPONSE + apdu
    control = hdlc.u_control(hdlc.FrameType.UI, poll=False)
    return b"".join(
        hdlc.encode_frame(
            HdlcAddress(MANAGEMENT_CLIENT),
            own,
            control,
            data[begin : begin + _UI_SEGMENT],
            segmented=begin + _UI_SEGMENT < len(data),
        )
        for begin in range(0, len(data), _UI_SEGMENT)
    )
