"""What programs ask of DLMS meters (`headend.drivers.commands`): a class of methods for each kind."""

from headend.drivers.dlms.commands.clock import ClockCommands
from headend.drivers.dlms.commands.firmware import FirmwareCommands
from headend.drivers.dlms.commands.keys import KeysCommands
from headend.drivers.dlms.commands.limit import LimitCommands
from headend.drivers.dlms.commands.parameters import ParametersCommands
from headend.drivers.dlms.commands.switch import SwitchCommands
from headend.drivers.dlms.commands.tariff import TariffCommands


class DlmsCommands(
    FirmwareCommands,
    ClockCommands,
    SwitchCommands,
    LimitCommands,
    KeysCommands,
    TariffCommands,
    ParametersCommands,
):
    """All of them."""
