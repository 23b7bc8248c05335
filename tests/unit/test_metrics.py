"""Figures for Prometheus: what they are called, and what is read when they are scraped."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headend.observe.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_a_figure_that_somebody_keeps_is_read_at_each_scrape() -> None:
    metrics, waiting = Metrics(), [0]
    metrics.watch("headend_waiting", "Who wait", lambda: waiting[0])
    assert samples(metrics)["headend_waiting", ()] == 0
    waiting[0] = 7
    assert samples(metrics)["headend_waiting", ()] == 7


def test_a_figure_with_a_label_is_one_for_each_of_its_values() -> None:
    metrics = Metrics()
    metrics.watch("headend_breakers", "Breakers", lambda: {"open": 2, "closed": 0}, label="state")
    found = samples(metrics)
    assert found["headend_breakers", (("state", "open"),)] == 2
    assert found["headend_breakers", (("state", "closed"),)] == 0


def test_what_only_grows_is_a_counter() -> None:
    metrics = Metrics()
    metrics.watch("headend_batches", "Batches", lambda: 3, total=True)
    assert samples(metrics)["headend_batches_total", ()] == 3
    assert "# TYPE headend_batches_total counter" in metrics.text().decode()


def test_a_name_is_taken_once() -> None:
    metrics = Metrics()
    metrics.watch("headend_waiting", "Who wait", lambda: 0)
    with pytest.raises(ValueError, match="headend_waiting"):
        metrics.watch("headend_waiting", "Others", lambda: 0)


def test_two_sets_of_figures_know_nothing_of_each_other() -> None:
    one, other = Metrics(), Metrics()
    one.conversations.labels("dlms", "answered").inc()
    assert ("headend_conversations_total", (("driver", "dlms"), ("outcome", "answered"))) not in samples(
        other
    )
