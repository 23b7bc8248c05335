"""Whether meters of a model can have a program at all."""

from collections.abc import Callable

from headend.drivers.contract import Feature, Target
from schemas.model import ModelError

#: What meters of a model can. Raises ModelError, LocalProtocolError.
Features = Callable[[str], frozenset[Feature]]


def why_not(features: Features, target: Target, feature: Feature, what: str) -> str | None:
    """Why a meter cannot have it; None where it can."""
    model = target.meter.model
    try:
        if feature in features(model):
            return None
    except ModelError as error:
        return str(error)
    return f"meters of model {model} have no {what}"
