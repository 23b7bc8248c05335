"""What a failure at each stage means, and what an engineer does about it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from schemas.failure import Stage


class Told(NamedTuple):
    """``meaning`` in words, and the ``remedy``."""

    meaning: str
    remedy: str


STAGES: Final[Mapping[Stage, Told]] = MappingProxyType(
    {
        Stage.DNS: Told(
            meaning="the host's name does not resolve",
            remedy="check the name in the meter's address, and the resolver of this host",
        ),
        Stage.CONNECT: Told(
            meaning="nobody takes the connection, or the line cannot be opened",
            remedy="check power and SIM or cable at the meter, the port of its address, firewalls between",
        ),
        Stage.GATEWAY: Told(
            meaning="its concentrator or gateway answers, and does not reach the meter",
            remedy="look at its neighbours: one silent meter is likely without power or not registered any "
            "more, many are the powerline or radio cell",
        ),
        Stage.ASSOCIATION: Told(
            meaning="the meter refuses the association, or another meter answers",
            remedy="compare client and server SAP, security policy and serial number with the meter's; after "
            "an exchange, record the new meter",
        ),
        Stage.COUNTER: Told(
            meaning="an invocation counter is not accepted",
            remedy="give each head-end that reads it a system title of its own; after a reset of the meter, "
            "read it now: its counter is asked for first",
        ),
        Stage.CIPHER: Told(
            meaning="a key is missing or wrong",
            remedy="import the meter's keys again (headend keys); after a key change, the newest",
        ),
        Stage.ACCESS: Told(
            meaning="the meter understood, and refused what was asked",
            remedy="compare its model here with the meter: object list, access rights, capture objects",
        ),
        Stage.TIMEOUT: Told(
            meaning="the link was there, and no answer came in time",
            remedy="look at signal and hops (headend network show); where answers are slow and not missing, "
            "raise response_timeout_s",
        ),
        Stage.DECODE: Told(
            meaning="what came breaks its language",
            remedy="give the bytes to headend decode (the log has them at debug level); a bad line shows at "
            "its neighbours too",
        ),
        Stage.SETTINGS: Told(
            meaning="nothing was sent: address, model or profile cannot be used",
            remedy="correct what the reason names: the meter's address, or its model's file",
        ),
    }
)
