"""Figures for Prometheus, in a registry of their own. No label names a meter: that is what tables are for.

A part of the house that has figures takes these and counts; what somebody else already counts is read when it
is scraped (`watch`).
"""

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

#: What ``headend_conversations_total`` calls a conversation that did not fail, or by no failure of its own.
ANSWERED: Final = "answered"
REFUSED: Final = "not_tried"
OURS: Final = "ours"

_WAITS: Final = (0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
_LENGTHS: Final = (0.05, 0.2, 1.0, 5.0, 15.0, 60.0, 300.0)

Labels = Mapping[str, float]


class Metrics:
    """All figures of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.conversations = Counter(
            "headend_conversations",
            "Conversations with meters by language and what they came to: answered, not_tried (a breaker is "
            "open), ours (no failure of the conversation), or the stage at which they failed",
            ("driver", "outcome"),
            registry=self.registry,
        )
        self.conversation_seconds = Histogram(
            "headend_conversation_seconds",
            "From a conversation's permits to its end",
            ("driver",),
            buckets=_LENGTHS,
            registry=self.registry,
        )
        self.permit_wait_seconds = Histogram(
            "headend_permit_wait_seconds",
            "Waiting for the permits of a conversation",
            ("urgency",),
            buckets=_WAITS,
            registry=self.registry,
        )

    def watch(
        self,
        name: str,
        about: str,
        read: Callable[[], float | Labels],
        *,
        label: str = "",
        total: bool = False,
    ) -> None:
        """A figure that somebody keeps already, read at each scrape; with ``label`` one for each value of it.

        ``total``: it only grows. Raises ValueError where the name is taken.
        """
        self.registry.register(_Watched(name, about, read, label, total))

    def text(self) -> bytes:
        """All figures in Prometheus' text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)


class _Watched(Collector):
    def __init__(
        self, name: str, about: str, read: Callable[[], float | Labels], label: str, total: bool
    ) -> None:
        self._name, self._about, self._read, self._label, self._total = name, about, read, label, total

    def describe(self) -> list[Metric]:
        """Names without figures: the registry asks before anything can be read."""
        return [self._family()]

    def collect(self) -> list[Metric]:
        """The figures now."""
        family, found = self._family(), self._read()
        if isinstance(found, Mapping):
            for value, figure in found.items():
                family.add_metric([value], figure)
        else:
            family.add_metric([], found)
        return [family]

    def _family(self) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if self._total else GaugeMetricFamily
        return kind(self._name, self._about, labels=[self._label] if self._label else [])
