"""Meter models: what a TOML profile says of a kind of meter, checked when it is loaded.

A profile names its driver, how to open an association, how the meter's clock runs, its load profiles column
by column, the registers worth reading, its event logs and alarms, and how to understand pushes that carry no
OBIS codes or no scalers.
``inherit = "other"`` takes everything of another profile; tables merge key by key, arrays are replaced whole.
The files are in ``schemas/profiles``; a folder of the operator's own is looked at first.
"""

from schemas.model.association import Association, Hdlc, MechanismName, Protection
from schemas.model.clock import Clock
from schemas.model.events import AlarmRegister, EventColumn, EventLogObject, Events
from schemas.model.firmware import Distribution, Firmware
from schemas.model.keys import Keys
from schemas.model.load_profile import Column, LoadProfile
from schemas.model.meter_model import MeterModel, Quirks, Register
from schemas.model.parameters import AllowedParameter, ParametersRules
from schemas.model.parts import HexText, ModelError, ObisPattern, ObisText, Scaler, Scaling, ZoneName
from schemas.model.profiles import explain, load_model, model_names, read_profile
from schemas.model.push import Heartbeat, Position, PushList, PushMatch
from schemas.model.switch import Limit, Switch

__all__ = [
    "AlarmRegister",
    "AllowedParameter",
    "Association",
    "Clock",
    "Column",
    "Distribution",
    "EventColumn",
    "EventLogObject",
    "Events",
    "Firmware",
    "Hdlc",
    "Heartbeat",
    "HexText",
    "Keys",
    "Limit",
    "LoadProfile",
    "MechanismName",
    "MeterModel",
    "ModelError",
    "ObisPattern",
    "ObisText",
    "ParametersRules",
    "Position",
    "Protection",
    "PushList",
    "PushMatch",
    "Quirks",
    "Register",
    "Scaler",
    "Scaling",
    "Switch",
    "ZoneName",
    "explain",
    "load_model",
    "model_names",
    "read_profile",
]
