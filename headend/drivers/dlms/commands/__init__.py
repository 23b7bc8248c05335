"""What programs ask of DLMS meters (`headend.drivers.commands`): a class of methods for each kind."""

from headend.drivers.dlms.commands.base import Commands


class DlmsCommands(Commands):
    """All of them."""
