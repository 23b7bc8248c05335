"""The storing benchmark stores what it says, in each of its ways."""

from headend.bench import run, store
from headend.bench.run import Effort


def test_storing_is_measured_on_the_embedded_database(monkeypatch):
    monkeypatch.delenv(store.TIMESCALEDB_URL, raising=False)
    lines = run.storing(
        Effort(rounds=1, seconds=0.01, stores=1, batches=1, associations=1), lambda _what: None
    )
    assert [line.mark for line in lines] == [0.8, None]
    assert all(line.ours > 0 and line.reference > 0 for line in lines)
    assert "plain table" in lines[0].note


def test_a_day_is_split_by_meter_without_loss():
    batch = store.day_of(5, 3, 1)
    parts = store._by_meter(batch)
    assert [int(part.meter_id[0]) for part in parts] == [5, 6, 7]
    assert sum(map(len, parts)) == len(batch)
    assert [part.covered_us[0] for part in parts] == list(batch.covered_us)
    assert (parts[2].values == batch.values[-96:]).all()
