"""CM-41 on generated books: no fill of a leg makes its account worse, whatever else is executed before."""

from __future__ import annotations

from itertools import product

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from leg_plans import GRAIN, PROFILE, all_filled, faults, fill_effect, plans
from worlds import BTC, LISTING, MODEL, OWNER, UNIT, A, B, C, Chains, dollars, marks, trade, usd, withdraw

from keeper.clearing.exposure import live_effects
from keeper.margin.portfolio import Portfolio, portfolio
from keeper.margin.report import evaluate
from keeper.state.ids import is_token
from keeper.state.live import LiveItem

sizes = st.integers(-20_000, 20_000).map(lambda n: n / 1000)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    on_a=sizes,
    on_b=sizes,
    on_c=sizes,
    bitcoin=st.integers(-1000, 1000).map(lambda n: n / 1000),
    collateral=st.integers(0, 10_000).map(lambda n: n / 1000),
    health=st.floats(-0.5, 0.999),
    closed=st.integers(0, 5),
    parts=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_cm_41_no_fill_of_a_leg_makes_an_account_worse(
    on_a: float,
    on_b: float,
    on_c: float,
    bitcoin: float,
    collateral: float,
    health: float,
    closed: int,
    parts: list[float],
) -> None:
    """With q = equity ÷ MM at planning: equity − q · MM ≥ 0 after any part, or below 0 MM − equity does not grow."""
    chains = Chains().linked(OWNER, (A, B, C)).size(OWNER, A, on_a).size(OWNER, B, on_b).size(OWNER, C, on_c)
    chains.size(OWNER, C, bitcoin, BTC).weth(OWNER, A, collateral).closed(OWNER, B, closed)
    bare = chains.report()
    assume(bare.maintenance_margin > usd(1))
    chains.cash(OWNER, A, dollars(int(bare.maintenance_margin * health) - bare.equity))
    before = chains.report()
    assume(before.status == "liquidatable")
    legs = plans(chains)
    if not legs:
        return
    event(f"{len(legs)} legs")
    assert faults(chains, *legs) == []
    whole = [list(corner) for corner in product((0.0, 1.0), repeat=min(len(legs), 4))]
    for fill in [*whole, *[[part] * len(legs) for part in parts], [parts[n % len(parts)] for n in range(len(legs))]]:
        after = all_filled(chains, list(zip(legs, fill, strict=False)))
        if before.equity >= 0:
            # equity ÷ MM does not fall; 2e-6 for the rounding of the figures compared, on either side.
            left = (after.equity + 2 * GRAIN) * before.maintenance_margin
            assert left >= before.equity * (after.maintenance_margin - 2 * GRAIN)
            assert after.equity >= -2 * GRAIN
        else:
            grown = (after.maintenance_margin - after.equity) - (before.maintenance_margin - before.equity)
            assert grown <= 4 * GRAIN
    # The concessions never exceed what equity pays, nor a tenth of the standalone maintenance margin.
    conceded = 0
    for leaf in legs:
        size = abs(leaf.close_limit) - chains.world[leaf.chain_id].closed.get((OWNER, leaf.asset), 0)
        conceded += leaf.max_concession * size
        standalone = evaluate([Portfolio(chains.account(), 0, {leaf.asset: size}, {})], marks(), MODEL)[0]
        if not is_token(leaf.asset):
            assert leaf.max_concession * size <= standalone.maintenance_margin * UNIT // 10 + UNIT * UNIT // 1000
    if before.equity >= 0:
        assert conceded <= before.equity * UNIT


@settings(max_examples=60, deadline=None)
@given(
    health=st.floats(0.1, 0.99),
    trades=st.lists(st.tuples(st.integers(-6000, 6000), st.sampled_from([A, B])), max_size=3),
    out=st.integers(0, 500),
    part=st.floats(0, 1),
)
def test_cm_41_holds_beside_every_subset_of_live_permits(
    health: float, trades: list[tuple[int, int]], out: int, part: float
) -> None:
    """In each subset the leg leaves equity ÷ MM at least the lesser of the final one and that subset's own."""
    chains = Chains().linked(OWNER, (A, B)).size(OWNER, A, 2).size(OWNER, B, 5)
    chains.cash(OWNER, A, -21_000 + 2940 * health)
    live: list[LiveItem] = [trade(size / 1000, chain_id=chain_id) for size, chain_id in trades if size]
    live += [withdraw(out)] if out else []
    before = chains.report()
    assume(before.status == "liquidatable")
    legs = plans(chains, live=live)
    if not legs:
        return
    assert faults(chains, *legs, live=live) == []
    book = portfolio(chains.world, LISTING, chains.account())
    fills = [fill_effect(chains, leaf, part) for leaf in legs]
    effects = [e.effect for e in live_effects(chains.account(), live, chains.world, LISTING, PROFILE, {})]
    for mask in range(2 ** len(effects)):
        executed = book
        for bit, effect in enumerate(effects):
            executed = executed.plus(effect) if mask >> bit & 1 else executed
        for corner in range(1, 2 ** len(fills)):
            closed = executed
            for bit, fill in enumerate(fills):
                closed = closed.plus(fill) if corner >> bit & 1 else closed
            without, with_legs = evaluate([executed, closed], marks(), MODEL)
            if without.equity >= 0 and without.maintenance_margin > 0:
                q = min(before.equity / before.maintenance_margin, without.equity / without.maintenance_margin, 1)
                assert dollars(with_legs.equity) >= q * dollars(with_legs.maintenance_margin) - 1e-4
            else:
                short = without.maintenance_margin - without.equity
                assert with_legs.maintenance_margin - with_legs.equity <= short + 4 * GRAIN
