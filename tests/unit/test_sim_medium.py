"""Links that weaken, routes that lose, trees that grow relays."""

import numpy as np
import pytest

from concentrator_sim.dice import Dice
from concentrator_sim.medium import (
    CARRIERS,
    RELAY_BELOW_DB,
    Hop,
    Route,
    frame_loss,
    is_evening,
    margin_db,
    quality,
)
from concentrator_sim.plan import NetworkPlan, StationPlan
from concentrator_sim.scenario import find_scenario, load_scenario
from concentrator_sim.tree import FIRST_BELOW_STATIONS, grow, join
from schemas.network import LinkKind

NIGHT = 1_800_068_400  # 02:00 of Central European Time
EVENING = NIGHT + 17 * 3600


PINNED = (11528804819985847379, 4287533568477091168)


def route(*margins, kind=LinkKind.PLC_NARROWBAND, seed=1):
    return Route(tuple(Hop(kind, margin) for margin in margins), Dice(seed, "test"))


def test_dice_repeat_and_are_pinned():
    # whoever changes these changes all scenarios
    assert (Dice(1, "a").bits(), Dice("x").bits()) == PINNED
    first, again = Dice(1, "a"), Dice(1, "a")
    assert [first.bits() for _ in range(5)] == [again.bits() for _ in range(5)]
    assert Dice(1, "a").bits() != Dice(1, "b").bits()
    assert 0.49 < sum(first.chance() for _ in range(20_000)) / 20_000 < 0.51


def test_a_dice_draws_nothing_for_what_is_certain():
    dice, same = Dice(3), Dice(3)
    assert dice.happens(1.0)
    assert not dice.happens(0.0)
    assert dice.bits() == same.bits()


@pytest.mark.parametrize("kind", [*LinkKind])
def test_links_weaken_with_distance_and_noise(kind):
    near, far = margin_db(kind, 10), margin_db(kind, 1000)
    assert far <= near
    assert (far < near) == bool(CARRIERS[kind].db_per_m or CARRIERS[kind].db_per_decade)
    assert margin_db(kind, 10, noise_db=5) == pytest.approx(near - 5)


def test_a_route_that_loses_nothing_takes_its_time_and_draws_nothing():
    hop = Hop(LinkKind.ETHERNET, 80.0)
    sure, dice = Route((hop, hop), Dice("sure")), Dice("sure")
    assert sure.send(1_000, EVENING) == pytest.approx(2 * (0.001 + 1_000 * 8 / 50_000_000))
    assert sure.dice.bits() == dice.bits()


def test_a_link_that_is_quiet_by_night_alone_is_not_sure():
    margin = next(m / 10 for m in range(800) if frame_loss(m / 10) == 0)
    one, same = Route((Hop(LinkKind.PLC_NARROWBAND, margin),), Dice("s")), Dice("s")
    one.send(100, EVENING)
    assert one.dice.bits() != same.bits()


@pytest.mark.parametrize("margin", [80.0, 40.0])
def test_a_day_takes_59_seconds_at_530_bits_a_second(margin):
    slow = Route((Hop(LinkKind.ETHERNET, margin),), Dice("slow"), rate_bps=530)
    day = [1_024, 1_024, 1_024, 760]  # 96 rows in blocks
    assert sum(slow.send(size, NIGHT) for size in day) == pytest.approx(58.5, abs=1)


def test_loss_and_quality_follow_the_margin():
    margins = np.arange(-10, 60)
    losses = [frame_loss(float(margin)) for margin in margins]
    assert losses == sorted(losses, reverse=True)
    assert frame_loss(6.0) == 0.5
    assert frame_loss(90.0) == 0
    qualities = [quality(float(margin)) for margin in margins]
    assert qualities == sorted(qualities)
    assert (qualities[0], qualities[-1]) == (0, 100)


def test_evenings_are_noisy_on_power_lines():
    assert is_evening(EVENING)
    assert not is_evening(NIGHT)
    one = route(14.0)
    assert one.loss(500, EVENING) > one.loss(500, NIGHT) > 0
    assert route(90.0, kind=LinkKind.SERIAL).loss(500, EVENING) == 0


@pytest.mark.parametrize(("margins", "size"), [((12.0,), 100), ((10.0, 12.0), 300), ((8.0, 11.0, 9.0), 600)])
def test_what_is_lost_is_what_is_declared(margins, size):
    one, sent = route(*margins), 20_000
    lost = sum(one.send(size, NIGHT) is None for _ in range(sent))
    declared = one.loss(size, NIGHT)
    assert declared > 0
    deviation = (sent * declared * (1 - declared)) ** 0.5
    assert abs(lost - sent * declared) < 5 * deviation + 1


def test_delay_grows_with_size_and_hops():
    assert route(60.0).send(128, NIGHT) == pytest.approx(0.015 + 128 * 8 / 48_000)
    assert route(60.0).send(0, NIGHT) == pytest.approx(0.015)
    assert route(60.0, 60.0).send(128, NIGHT) == pytest.approx(2 * (0.015 + 128 * 8 / 48_000))
    assert route(60.0).send(4096, NIGHT) > route(60.0).send(128, NIGHT)


def test_the_same_seed_loses_the_same():
    first, again, other = route(8.0), route(8.0), route(8.0, seed=2)
    losses = [first.send(300, NIGHT) for _ in range(300)]
    assert losses == [again.send(300, NIGHT) for _ in range(300)]
    assert losses != [other.send(300, NIGHT) for _ in range(300)]
    assert None in losses


def test_a_chain_gets_relays():
    # 0 hears the station, 1 hears 0, 2 hears 1, 3 nobody well, the station best
    margins = np.full((4, 5), -50.0)
    margins[0, 4] = margins[1, 0] = margins[2, 1] = RELAY_BELOW_DB
    margins[3, 4] = 0.0
    above, depth = join(margins, 8)
    assert above.tolist() == [-1, 0, 1, -1]
    assert depth.tolist() == [1, 2, 3, 1]
    above, depth = join(margins, 2)
    assert (above[2], depth[2]) in ((-1, 1), (0, 2), (1, 3))
    assert depth[2] <= 2


@pytest.mark.parametrize("seed", range(6))
def test_worse_links_never_need_fewer_relays(seed):
    dice = Dice(seed, "places")
    x = np.array([[dice.between(-300, 300) for _ in range(2)] for _ in range(40)])
    before, reached_before = np.zeros(40, int), np.ones(40, bool)
    for worse in (1.0, 1.5, 2.0, 3.0, 4.0):
        between = np.hypot(*(x[:, None] - x[None]).transpose(2, 0, 1)) * worse
        margins = np.concatenate([between, np.hypot(*x.T)[:, None] * worse], axis=1)
        margins = 45 - 0.07 * margins
        above, depth = join(margins, 40)
        reached = margins[np.arange(40), above] >= RELAY_BELOW_DB
        assert not (reached & ~reached_before).any()
        assert (depth[reached] >= before[reached]).all()
        before, reached_before = depth, reached
    assert depth.max() > 2


def test_a_tree_is_a_function_of_its_seed():
    plans = (
        StationPlan(kind="mqtt", count=3, meters=30),
        StationPlan(kind="wifi"),
        StationPlan(kind="zigbee"),
    )
    network = NetworkPlan(substations=2, feeders=3, transformers=4)
    tree = grow(5, network, plans)
    assert tree == grow(5, network, plans)
    margins = [[leaf.margins for leaf in station.leaves] for station in tree.stations]
    other = grow(6, network, plans)
    assert margins != [[leaf.margins for leaf in station.leaves] for station in other.stations]
    assert [station.code for station in tree.stations] == [
        "DC-0001", "DC-0002", "DC-0003", "HOUSE-0001", "GW-0001",
    ]  # fmt: skip
    assert [station.transformer for station in tree.stations] == [
        "TR0001", "TR0002", "TR0003", "TR0004", "TR0001",
    ]  # fmt: skip
    assert set(tree.feeder_of.values()) == {"FD001", "FD002", "FD003"}
    assert set(tree.substation_of.values()) == {"SS01", "SS02"}
    numbers = [leaf.number for station in tree.stations for leaf in station.leaves]
    assert numbers == list(range(FIRST_BELOW_STATIONS, FIRST_BELOW_STATIONS + tree.meters))


def test_a_leafs_route_is_its_relays_route_and_one_hop():
    tree = grow(5, NetworkPlan(), (StationPlan(kind="mqtt", count=4, meters=40),))
    relayed = 0
    for station in tree.stations:
        for leaf in station.leaves:
            above = () if leaf.relay is None else station.leaves[leaf.relay].margins
            relayed += leaf.relay is not None
            assert leaf.margins[:-1] == above
            assert len(station.route(leaf).hops) == leaf.hops <= CARRIERS[LinkKind.PLC_NARROWBAND].max_hops
    assert relayed > 20


def test_noise_makes_relays():
    plans = (StationPlan(kind="store_and_forward", count=5, meters=40),)
    quiet = grow(1, NetworkPlan(), plans)
    noisy = grow(1, NetworkPlan(noise_db={"plc_broadband": 8}), plans)

    def hops(tree):
        return sum(leaf.hops for station in tree.stations for leaf in station.leaves)

    assert hops(noisy) > hops(quiet)


def test_meters_of_the_demonstration_are_all_reached():
    scenario = load_scenario(find_scenario("demo"))
    tree = grow(scenario.seed, scenario.network, scenario.stations)
    for station in tree.stations:
        for leaf in station.leaves:
            assert station.route(leaf).loss(1000, EVENING) < 0.05, (station.code, leaf)
