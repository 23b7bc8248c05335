"""Breaker and limiter of a kind of meter: where its objects are."""

from schemas.model.parts import ObisText, Part


class Switch(Part):
    """Disconnect Control (class 70), by its usual logical name."""

    obis: ObisText = "0-0:96.3.10*255"


class Limit(Part):
    """Limiter (class 71), by its usual logical name."""

    obis: ObisText = "0-0:17.0.0*255"
