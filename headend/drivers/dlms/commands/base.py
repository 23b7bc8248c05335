"""What all commands of DLMS meters stand on."""

from headend.session.client import MeterSession
from schemas.model import MeterModel


class Commands:
    """An open session with a meter of a model."""

    def __init__(self, session: MeterSession, model: MeterModel) -> None:
        self._session = session
        self._model = model
