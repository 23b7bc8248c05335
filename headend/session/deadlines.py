"""How long each wait of a session may take, in seconds, one by one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. The defaults suit a concentrator behind a cellular modem; a profile or a test names others.

    ``connect_s``    from dialling to an open link, name resolution included; also SNRM to UA.
    ``associate_s``  from AARQ to the association, the HLS pass included.
    ``response_s``   from a request to its complete answer; each block of a long answer has as long again.
    ``gap_s``        between two pieces of one frame: a peer that stopped in the middle will not go on.
    ``frame_s``      over HDLC, from a frame that gives the turn away to the answer, before it is sent again;
                     amid general blocks, from the last one that came until the peer is asked for the rest.
    ``release_s``    for RLRQ, DISC and closing together; after it the link is aborted.
    ``session_s``    for everything between opening and release: no chain of blocks outlasts it.
    """

    connect_s: float = 15.0
    associate_s: float = 30.0
    response_s: float = 30.0
    gap_s: float = 10.0
    frame_s: float = 5.0
    release_s: float = 5.0
    session_s: float = 600.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0 seconds, not {getattr(self, name)}")
