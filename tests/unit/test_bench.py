"""The benchmark measures what it says: all clients read the same values, ratios and marks are told right."""

import io
import itertools
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from headend.bench import payload, run, worker
from headend.bench.meter import KEYS, MAX_PDU
from headend.bench.processes import BenchError, Process, meter, ours, peers
from headend.bench.report import Line, Report, cells, compare
from headend.bench.run import Effort
from headend.cli.main import app
from protocols.dlms import axdr

TINY = Effort(rounds=1, seconds=0.01, stores=1, batches=1, associations=5)


def quiet(_what):
    pass


def test_payload_is_a_day_of_96_rows():
    day = payload.rows()
    assert day[0] == (1772406000, 1, 10_000_038, 5_001, 700_002, 90_001)
    data = axdr.decode_exact(payload.buffer(day))
    assert len(data.value) == payload.ROWS
    first = data.value[0].value
    assert first[0].value == bytes.fromhex("07EA03020100000000FFC400")
    assert [item.value for item in first[1:]] == list(day[0][1:])


def test_fingerprint_tells_any_change():
    day = payload.rows()
    stamp, status, *values = day[50]
    values[2] += 1
    other = [*day[:50], (stamp, status, *values), *day[51:]]
    assert payload.fingerprint(day) != payload.fingerprint(other)
    assert payload.fingerprint(day) == payload.fingerprint(payload.rows())


def test_repeat_counts_what_it_did(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(worker.time, "process_time", lambda: next(clock))
    done = []
    found = worker.repeat(lambda: done.append(1), 5, "f", each=10)
    assert found["count"] == 10 * (len(done) - 1)  # the first is for warming up
    assert found["cpu_s"] == 5
    assert found["fingerprint"] == "f"


def test_compare_takes_the_median_of_the_rounds():
    line = compare("w", "p", [2.0, 1.0, 4.0], [20.0, 30.0, 20.0], "us", 10.0)
    assert (line.ours, line.reference) == (2.0, 20.0)
    assert (line.low, line.ratio, line.high) == (5.0, 10.0, 30.0)
    assert line.holds is True
    assert compare("w", "p", [2.0], [19.9], "us", 10.0).holds is False
    assert compare("w", "p", [2.0], [19.9], "us", None).holds is None


def test_memory_mark_is_an_upper_bound():
    assert Line("w", "-", 30.0, None, "kB", mark=30.0).holds is True
    missed = Line("w", "-", 30.1, None, "kB", mark=30.0)
    assert missed.holds is False
    assert cells(missed) == ("30.1 kB", "-", "-", "<= 30 kB", "NO")


def test_a_peer_that_is_not_there_is_told_and_misses_nothing():
    line = Line("w", "p", 1.0, None, "us", mark=5.0, note="peer not installed")
    assert line.holds is None
    assert cells(line)[-1] == "not compared"
    report = Report((line,))
    assert report.holds
    assert json.loads(json.dumps(report.as_json()))["lines"][0]["holds"] is None
    assert not Report((line, Line("w", "-", 31.0, None, "kB", mark=30.0))).holds


def test_every_client_reads_the_same_values_in_plain_and_ciphered_sessions():
    expected = payload.fingerprint(payload.rows())
    with meter() as field, ours() as mine:
        plain = {"ports": field.hello["plain"]}
        ciphered = {"ports": field.hello["ciphered"], "keys": KEYS, "max_pdu": MAX_PDU}
        clients = [mine, *(peer for peer in peers().values() if peer is not None)]
        for client in clients:
            if client is mine:
                found = [
                    client.round("session", 0.01, **plain),
                    client.round("ciphered-session", 0.01, **ciphered),
                ]
            else:
                with client:
                    found = [
                        client.round("session", 0.01, **plain),
                        client.round("ciphered-session", 0.01, **ciphered),
                    ]
            assert [one["fingerprint"] for one in found] == [expected] * 2, client.name
            assert all(one["count"] >= 1 for one in found)


def test_decoding_runs_and_tells_all_marks():
    lines = run.decode(TINY, quiet)
    assert {line.mark for line in lines} == {200.0, 250.0, None}
    assert all(line.ours > 0 for line in lines)


def test_associations_are_counted_and_measured():
    lines = run.associations(TINY, quiet)
    assert [line.mark for line in lines] == [30.0, 30.0]


def test_clients_that_read_other_values_are_no_comparison(monkeypatch):
    class Client:
        def __init__(self, fingerprint):
            self.fingerprint = fingerprint

        def round(self, work, seconds):
            return worker.Round(count=1, cpu_s=1.0, wall_s=1.0, fingerprint=self.fingerprint)

    with pytest.raises(BenchError, match="same values"):
        run._take_turns({"a": (Client("1"), "w", {}), "b": (Client("2"), "w", {})}, TINY)


def test_a_client_that_fails_is_named():
    with pytest.raises(BenchError, match="broken ended with status 1"):
        Process("broken", ["false"]).__enter__()


def test_command_refuses_a_part_that_is_not_there():
    result = CliRunner().invoke(app, ["bench", "--only", "decode,nothing"])
    assert result.exit_code == 2
    assert "nothing" in result.output


def test_a_note_stands_below_its_work_without_any_markup():
    line = Line("storing", "COPY", 1.0, None, "us", note="[a] hypertable")
    console = Console(markup=False, width=160, file=io.StringIO())
    console.print(Report((line,)).table())
    shown = console.file.getvalue()
    assert "[a] hypertable" in shown
    assert "dim" not in shown
