"""Rules of people that need no database: areas, one-time passwords, buckets of requests, names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import TooMany
from api.limits import Buckets, Limits
from headend.keys.seal import MasterKey, Sealer
from headend.people import second_factor
from headend.people.identity import principal
from headend.store.accounts import Credentials
from schemas.people import ROLES, AccountState, Grant, Permission, Principal, Role
from tests.integration.people import NOW

GRANTS = st.lists(
    st.builds(Grant, st.sampled_from(Role), st.sampled_from([None, "north", "south", "DC-1"])), max_size=6
)


@given(GRANTS, st.sets(st.sampled_from(Permission), min_size=1))
def test_nobody_is_anywhere_with_what_he_was_not_given_there(
    grants: list[Grant], used: set[Permission]
) -> None:
    who = principal("account:1 a", 1, grants)
    assert who.permissions == {one for grant in grants for one in ROLES[grant.role]}
    for at in (who, who.at(*used)):
        looked_at = who.permissions if at is who else used & who.permissions
        for permission in looked_at:
            given_there = {grant.area for grant in grants if permission in ROLES[grant.role]}
            if at.areas is None:
                assert None in given_there
            elif None not in given_there:
                assert at.areas <= given_there


@given(GRANTS)
def test_one_permission_is_had_wherever_it_was_given(grants: list[Grant]) -> None:
    who = principal("account:1 a", 1, grants)
    for permission in who.permissions:
        given_there = {grant.area for grant in grants if permission in ROLES[grant.role]}
        assert who.at(permission).areas == (None if None in given_there else given_there)


def test_a_principal_of_no_roles_is_what_it_was_made() -> None:
    host = Principal("cli", frozenset(Permission))
    assert host.at(Permission.KEYS) is host


@pytest.mark.parametrize("text", ["operator", "operator:north", "viewer:a:b"])
def test_grants_are_written_as_they_are_read(text: str) -> None:
    assert str(Grant.parse(text)) == text


@pytest.mark.parametrize("text", ["", "king", "operator:", ":north", "Operator"])
def test_what_is_no_grant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"role|area"):
        Grant.parse(text)


#: RFC 6238, appendix B, SHA-1: the last six of its eight digits.
RFC_6238 = {
    59: "287082",
    1111111109: "081804",
    1111111111: "050471",
    1234567890: "005924",
    2000000000: "279037",
}


@pytest.mark.parametrize("at_s", RFC_6238)
def test_one_time_passwords_are_those_of_the_rfc(at_s: int) -> None:
    from datetime import UTC, datetime

    sealer = Sealer(MasterKey(bytes(range(32))))
    sealed = sealer.seal_totp_secret(b"12345678901234567890", 7)
    held = Credentials(7, AccountState.ACTIVE, None, sealed, sealer.current_id, NOW, None)
    now = datetime.fromtimestamp(at_s, UTC)
    assert second_factor._step(held, sealer, RFC_6238[at_s], now) == at_s // 30
    assert second_factor._step(held, sealer, "000000", now) is None


def test_a_secret_is_of_one_account() -> None:
    sealer = Sealer(MasterKey(bytes(range(32))))
    sealed = sealer.seal_totp_secret(b"x" * 20, 7)
    moved = Credentials(8, AccountState.ACTIVE, None, sealed, sealer.current_id, NOW, None)
    with pytest.raises(Exception, match="belongs elsewhere"):
        second_factor._step(moved, sealer, "123456", NOW)
    assert "x" * 20 not in repr(moved)


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 20), st.floats(0.1, 10))
def test_no_more_pass_than_the_bucket_holds_and_is_filled(
    waits: list[float], burst: int, rate: float
) -> None:
    now = 0.0
    bucket = Buckets(rate, burst, lambda: now)
    passed = 0
    for wait in waits:
        now += wait
        try:
            bucket.take("a")
            passed += 1
        except TooMany as refused:
            now += max(1, int(refused.headers["Retry-After"]))
            bucket.take("a")  # what was told is kept
            passed += 1
        assert passed <= burst + rate * now + 1e-6


def test_each_has_a_bucket_of_his_own() -> None:
    limits = Limits(1, 2, lambda: 0.0)
    one, two = (Principal(f"token:{n} t", frozenset(), token=n) for n in (1, 2))
    same = [Principal(actor, frozenset(), account=5) for actor in ("account:5 a", "token:9 t of a")]
    for who in (one, one, two, two, same[0], same[1]):
        limits.of_principal(who)
    for who in (one, two, *same):
        with pytest.raises(TooMany):
            limits.of_principal(who)
    for _ in range(4):
        limits.of_address("192.0.2.1")
    with pytest.raises(TooMany):
        limits.of_address("192.0.2.1")


def test_buckets_are_bounded(monkeypatch: Any) -> None:
    from api import limits

    monkeypatch.setattr(limits, "_MOST", 10)
    bucket = Buckets(1, 1, lambda: 0.0)
    for n in range(1000):
        bucket.take(str(n))
    assert len(bucket._left) == 10
