"""The AAREs of a fleet are the same few hundreds of bytes over and over, but for titles, challenges and what
is in the user information: whoever has seen one knows where these are in the next.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.acse import Aare

#: Longer ones are not kept: a hostile meter may send 64 KiB.
LONGEST: Final = 256
#: Forms that are kept, and of these with one length.
MOST: Final = 64
_MOST_ALIKE: Final = 4


class Answer(NamedTuple):
    """An AARE: what may differ between meters of a kind as it came, all else as in ``like``."""

    like: Aare
    title: bytes | None
    challenge: bytes | None
    information: bytes | None


class _Form(NamedTuple):
    """``fixed`` bytes, where each begins and ends, and between them what differs."""

    like: Aare
    fixed: tuple[tuple[int, int, bytes], ...]
    title: slice | None
    challenge: slice | None
    information: slice | None

    def read(self, apdu: bytes) -> Answer | None:
        for start, end, part in self.fixed:
            if apdu[start:end] != part:
                return None
        like, title, challenge, information = self.like, self.title, self.challenge, self.information
        return Answer(
            like,
            None if title is None else apdu[title],
            None if challenge is None else apdu[challenge],
            None if information is None else apdu[information],
        )


class AareForms:
    """Reads AAREs, and remembers how they were written."""

    def __init__(self) -> None:
        self._forms: OrderedDict[int, list[_Form]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Forms that are remembered."""
        return self._count

    def read(self, apdu: bytes) -> Answer:
        """As `acse.decode_aare`, which it raises as."""
        for form in self._forms.get(len(apdu), ()):
            answer = form.read(apdu)
            if answer is not None:
                return answer
        like = acse.decode_aare(apdu)
        if len(apdu) <= LONGEST:
            self._keep(_form(apdu, like), len(apdu))
        return Answer(
            like, like.responding_ap_title, like.responding_authentication_value, like.user_information
        )

    def _keep(self, form: _Form, length: int) -> None:
        alike = self._forms.setdefault(length, [])
        self._forms.move_to_end(length)
        if len(alike) == _MOST_ALIKE:
            del alike[0]
            self._count -= 1
        alike.append(form)
        self._count += 1
        while self._count > MOST:
            self._count -= len(self._forms.popitem(last=False)[1])


def _form(apdu: bytes, like: Aare) -> _Form:
    title, challenge, information = acse.places_in_aare(apdu, like)
    fixed, start = [], 0
    for place in sorted((one for one in (title, challenge, information) if one), key=lambda one: one.start):
        fixed.append((start, place.start, apdu[start : place.start]))
        start = place.stop
    fixed.append((start, len(apdu), apdu[start:]))
    return _Form(like, tuple(fixed), title, challenge, information)
