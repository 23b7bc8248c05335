"""Where a conversation failed: one taxonomy for API, metrics, logs, breakers and the command line."""

from enum import StrEnum


class Stage(StrEnum):
    """The stage at which a conversation with a meter failed.

    A link that is silent is not a meter that is broken: dns to gateway, and timeout, speak of the way, the
    rest of the meter, of its settings, or of us.
    """

    DNS = "dns"  # the host's name does not resolve
    CONNECT = "connect"  # nobody takes the connection, or the line cannot be opened
    GATEWAY = "gateway"  # the concentrator or gateway answers, and says that it does not reach the meter
    ASSOCIATION = "association"  # the meter refuses the association, or another meter answers
    COUNTER = "counter"  # an invocation counter that one of us does not accept
    CIPHER = "cipher"  # a key is missing or wrong: a tag does not verify, a message cannot be opened
    ACCESS = "access"  # the meter understood and refused what was asked
    TIMEOUT = "timeout"  # the link was there, and no answer came in time
    DECODE = "decode"  # what came breaks its language
    SETTINGS = "settings"  # nothing was sent: address, model or profile cannot be used


#: Failures that speak of the way to a meter; only they open a circuit breaker.
OF_THE_LINK = frozenset({Stage.DNS, Stage.CONNECT, Stage.GATEWAY, Stage.TIMEOUT})
