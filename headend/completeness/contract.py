"""What meters are expected to deliver: the curves of their models, as the drivers tell them."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from headend.drivers.contract import Curve, Recall
from headend.store import completeness
from headend.store.completeness import ModelCurve
from headend.store.sql import Connection
from schemas.model import ModelError

log = logging.getLogger(__name__)

#: What comes by itself is expected so long after its interval's end; batches of concentrators bring more than
#: one interval at a time.
PUSHED_GRACE_S: Final = 3600
#: What is sampled has been read or given up so long after its tolerance.
_SAMPLED_GRACE_S: Final = 60

Curves = Callable[[str], Sequence[Curve]]


def model_curve(model: str, curve: Curve) -> ModelCurve:
    """What is expected of each meter of ``model``."""
    match curve.recall:
        case Recall.STORED:
            grace_s = 0
        case Recall.SAMPLED:
            grace_s = curve.tolerance_s + _SAMPLED_GRACE_S
        case Recall.PUSHED:
            grace_s = PUSHED_GRACE_S
    zone = "UTC" if curve.zone is None else curve.zone.key
    return ModelCurve(model, curve.number, curve.period_s, curve.recall.value, zone, grace_s, curve.entries)


async def keep(connection: Connection, curves_of: Curves) -> None:
    """Bring the stored contract up to the models in use. A model that cannot be read keeps what it had."""
    known: list[ModelCurve] = []
    unreadable: list[str] = []
    for model in await completeness.models(connection):
        try:
            known += [model_curve(model, curve) for curve in curves_of(model)]
        except ModelError as error:
            log.warning("what is expected of meters of model %s is not known: %s", model, error)
            unreadable.append(model)
    await completeness.keep_contract(connection, known, unreadable=unreadable)
