"""Bodies and parameters that mean harm: each refused as a problem, none in the database or a trace."""

import re
from typing import Any

from headend.store.tokens import Scope

DEEP = b'{"start_registers":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def exchange(register: bytes, value: bytes) -> bytes:
    return b'{"meter":"M-1","since":"2026-03-01T00:00:00Z","start_registers":{%b:%b}}' % (register, value)


BODIES = {
    "deep": DEEP,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "long integer": exchange(b'"1.8.0"', b"9" * 500_000),
    "exponent": exchange(b'"1.8.0"', b'"1e999999999"'),
    "zero with exponent": exchange(b'"1.8.0"', b'"0e999999999"'),
    "small exponent": exchange(b'"1.8.0"', b'"1e-999999999"'),
    "bare exponent": exchange(b'"1.8.0"', b"1e999999999"),
    "not a number": exchange(b'"1.8.0"', b'"NaN"'),
    "signalling": exchange(b'"1.8.0"', b'"sNaN"'),
    "infinite": exchange(b'"1.8.0"', b'"-Infinity"'),
    "bare NaN": exchange(b'"1.8.0"', b"NaN"),
    "bare Infinity": exchange(b'"1.8.0"', b"Infinity"),
    "many digits": exchange(b'"1.8.0"', b'"' + b"9" * 100_000 + b'"'),
    "underscores": exchange(b'"1.8.0"', b'"1_0"'),
    "other digits": exchange(b'"1.8.0"', '"١٢"'.encode()),
    "one name twice": b'{"meter":"M-1","meter":"M-1","since":"2026-03-01T00:00:00Z"}',
    "one name twice inside": exchange(b'"1.8.0":"1","1.8.0"', b'"2"'),
    "one long name twice": b'{"%b":1,"%b":2}' % (b"n" * 100_000, b"n" * 100_000),
    "one register twice": exchange(b'"1.8.0":"1","1-0:1.8.0*255"', b'"2"'),
    "half a surrogate": exchange(b'"\\ud800"', b'"1"'),
    "half a surrogate as name": b'{"\\ud800":1}',
    "half a surrogate as value": b'{"meter":"\\ud800","since":"\\udfff"}',
    "half a surrogate as number": exchange(b'"1.8.0"', b'"\\ud800"'),
    "NUL": b'{"meter":"M\\u0000","since":"2026-03-01T00:00:00Z"}',
    "long time": b'{"meter":"M-1","since":"' + b"11:11:11.1" * 50_000 + b'"}',
    "no UTF-8": b'{"meter":"\xff\xfe"}',
    "UTF-16": '{"meter":"M-1"}'.encode("utf-16"),
    "an array": b"[1]",
    "a string": b'"x"',
    "nothing": b"",
    "year 0": b'{"meter":"M-1","since":"0000-01-01T00:00:00Z"}',
    "before the first year": b'{"meter":"M-1","since":"0001-01-01T00:00:00+14:00"}',
    "after the last year": b'{"meter":"M-1","since":"9999-12-31T23:59:59-14:00"}',
}


async def test_hostile_bodies_are_refused(house: Any) -> None:
    await house.add_meter("M-1")
    async with house.client(Scope.ADMIN, raises=False) as client:
        assert (await client.post("/api/v1/points", json={"code": "P"})).status_code == 201
        before = house.audit()
        for name, body in BODIES.items():
            for path in ("points/P/installations", "points/P/ratios", "points", "tokens", "meters/M-1/reads"):
                headers = {"content-type": "application/json"}
                answer = await client.post(f"/api/v1/{path}", content=body, headers=headers)
                assert answer.status_code in {400, 422}, (name, path, answer.status_code, answer.text[:200])
                assert answer.headers["content-type"] == "application/problem+json"
                assert len(answer.content) < 4096, f"{name}: a refusal does not send back what came in"
    assert house.audit() == before
    assert not house.lanes.asked


async def test_every_operation_with_a_body_takes_each_name_once(house: Any) -> None:
    body = b'{"unknown":1,"unknown":2}'
    async with house.client(Scope.ADMIN) as client:
        for path, item in house.app.openapi()["paths"].items():
            for method, operation in item.items():
                if "application/json" not in operation.get("requestBody", {}).get("content", {}):
                    continue  # none, or a file
                where = re.sub(r"{[^}]*}", "1", path)
                headers = {"content-type": "application/json"}
                answer = await client.request(method, where, content=body, headers=headers)
                assert (answer.status_code, "given twice" in answer.text) == (400, True), (path, answer.text)
