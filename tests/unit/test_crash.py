"""The crash run's pure parts: who is there, how prices move, how an ending is judged, how long fills took."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from worlds import BTC, ETH, MAKER, OTHER, OWNER, STRANGER, A, B

from keeper.devnet.chains import CHAINS, START_PRICES, START_VOLS
from keeper.devnet.crash.history import ChainHistory, Closed, payments
from keeper.devnet.crash.market import FALLEN, RISEN, crash, recovery
from keeper.devnet.crash.outcome import cascade, fate_of, figures_of, latencies, quantiles, tally
from keeper.devnet.crash.scenario import ScenarioError, listed, scenario
from keeper.devnet.crash.watch import legs_of, sample_of
from keeper.devnet.processes import DevnetError
from keeper.state.batch import UNIT
from keeper.state.ids import FUND, Kind, parse_instrument, perpetual
from keeper.state.world import BlockRef, ChainState

NEAR, FAR = 1_800_000_000, 1_800_600_000
REQUIRED = dict.fromkeys((*listed(NEAR, FAR), *map(perpetual, ("ETH", "BTC", "SOL"))), 300 * UNIT)


@given(st.integers(20, 220), st.integers(0, 2**32))
def test_everybody_has_a_position_and_every_instrument_is_traded(accounts: int, seed: int) -> None:
    found = scenario(accounts, seed, NEAR, FAR)
    assert len(found.members) == accounts
    assert len({member.account_id for member in found.members}) == accounts
    assert {i for deal in found.deals for i in (deal.maker, deal.taker)} == set(range(accounts))
    assert len(found.traded) == 20
    assert found == scenario(accounts, seed, NEAR, FAR)


@given(st.integers(20, 220), st.integers(0, 2**32))
def test_deals_are_such_as_the_contracts_take(accounts: int, seed: int) -> None:
    """No owner trades with himself, everybody trades on chains that are linked, and deposits lie there too."""
    found = scenario(accounts, seed, NEAR, FAR)
    sizes = found.sizes(REQUIRED, REQUIRED)
    for deal, size in zip(found.deals, sizes, strict=True):
        maker, taker = found.members[deal.maker], found.members[deal.taker]
        assert maker.owner != taker.owner
        assert deal.chain_id in maker.chains
        assert deal.chain_id in taker.chains
        assert (size > 0) == deal.buys
        assert size % 10**15 == 0
    for member in found.members:
        assert {deposit.chain_id for deposit in member.deposits} <= set(member.chains) <= {c.chain_id for c in CHAINS}
    hedges = [deal for deal in found.deals if deal.like is not None]
    assert hedges
    for number, deal in enumerate(found.deals):
        if deal.like is not None:
            assert sizes[number] == -sizes[deal.like]
            assert found.deals[deal.like].taker == deal.taker


def test_two_hundred_accounts_are_of_every_kind() -> None:
    found = scenario(200, 1, NEAR, FAR)
    roles = Counter(member.role for member in found.members)
    assert roles["maker"] == roles["hedged"] == 20
    assert set(roles) == {"maker", "hedged", "writer", "buyer", "short", "mixed", "long"}
    assert 140 <= len({member.owner for member in found.members}) <= 170
    assert 30 <= sum(member.sub_account > 0 for member in found.members) <= 60
    kinds = Counter(parse_instrument(asset).kind for asset in found.traded)
    assert kinds == {Kind.PERPETUAL: 3, Kind.FUTURE: 4, Kind.CALL: 6, Kind.PUT: 7}
    assert {parse_instrument(asset).expiry for asset in found.instruments} == {NEAR, FAR}
    assert {deposit.symbol for member in found.members for deposit in member.deposits} == {"USDC", "WETH", "WBTC"}


def test_another_seed_is_another_population() -> None:
    assert scenario(60, 1, NEAR, FAR) != scenario(60, 2, NEAR, FAR)


def test_too_few_accounts_are_refused() -> None:
    with pytest.raises(ScenarioError, match="19 accounts: at least 20"):
        scenario(19, 1, NEAR, FAR)


# --- prices --------------------------------------------------------------------------------------------------------


def test_prices_fall_within_the_time_and_come_back_most_of_the_way() -> None:
    down, up = crash(30, 60), recovery(30, 60)
    assert [step.second for step in down] == [10.0 * n for n in range(6)]
    eth = [step.answers["ETH"] for step in (*down, *up)]
    assert min(eth) == eth[len(FALLEN) - 1] == round(START_PRICES["ETH"] * 0.7)
    assert eth[: len(FALLEN)] == sorted(eth[: len(FALLEN)], reverse=True)
    assert eth[len(FALLEN) :] == sorted(eth[len(FALLEN) :])
    assert eth[-1] == round(START_PRICES["ETH"] * (1 - 0.3 * RISEN[-1]))
    bottom = down[-1].answers
    assert bottom["BTC"] == round(START_PRICES["BTC"] * 0.76)
    assert bottom["SOL"] == round(START_PRICES["SOL"] * 0.61)
    assert bottom["ETH-PERP"] == round(START_PRICES["ETH"] * 0.7 * 0.998)
    assert bottom["ETH-VOL"] == round(START_VOLS["ETH"] * 1.8)


@pytest.mark.parametrize("fall", [0, -5, 80])
def test_a_fall_that_is_none_or_leaves_nothing_is_refused(fall: float) -> None:
    with pytest.raises(DevnetError, match="more than 0 and less than 77"):
        crash(fall, 60)


# --- endings -------------------------------------------------------------------------------------------------------


def _history(chain_id: int = A, **changes: Any) -> ChainHistory:
    state = ChainState(chain_id, BlockRef(100, bytes(32), bytes(32), 1_000))
    return ChainHistory(replace(state, sizes=Map(changes.pop("sizes", {}))), **changes)


def _closed(rung: str, block: int, account: bytes = OWNER, asset: bytes = ETH, **changes: Any) -> Closed:
    taker = {"fund": FUND, "deleveraging": MAKER}.get(rung, STRANGER)
    base: Any = (rung, A, block, f"0x{block:x}", account, asset, taker, -UNIT, 2_500 * UNIT)
    return replace(Closed(*base), **changes)


HOLDING = {OWNER: Map({ETH: UNIT})}


@pytest.mark.parametrize(
    ("groups", "history", "name", "sound"),
    [
        ([(100, 80)], _history(sizes=HOLDING), "untouched", True),
        ([(100, 80)], _history(sizes=HOLDING, closed=[_closed("auction", 5)]), "restored by auction", True),
        ([(100, 0)], _history(closed=[_closed("auction", 5)]), "closed by auction", True),
        ([(100, 0)], _history(), "closed at expiry", True),
        ([(0, 0)], _history(closed=[_closed("auction", 5), _closed("fund", 6)]), "closed by fund", True),
        (
            [(100, 80)],
            _history(sizes=HOLDING, closed=[_closed("deleveraging", 5), _closed("auction", 6)]),
            "restored by deleveraging",
            True,
        ),
        (
            [(0, 0)],
            _history(closed=[_closed("auction", 5)], applied=[(3, FUND, -9), (3, OWNER, 9)]),
            "closed by payment",
            True,
        ),
        ([(79, 80)], _history(sizes=HOLDING), "below", False),
        ([(100, 80), (79, 80)], _history(sizes=HOLDING), "below", False),
        ([(-1, 0)], _history(closed=[_closed("auction", 5)]), "unpaid by auction", False),
        ([(-0.001, 0)], _history(closed=[_closed("auction", 5)]), "closed by auction", True),
    ],
)
def test_an_ending_is_named_by_the_last_rung_that_was_needed(
    groups: list[tuple[float, float]], history: ChainHistory, name: str, sound: bool
) -> None:
    """CM-43: nobody ends below maintenance margin, or owing, unseen."""
    exact = figures_of({"equity": str(round(e * UNIT)), "maintenanceMargin": str(round(m * UNIT))} for e, m in groups)
    fate = fate_of(OWNER, "long", exact, [history], payments([history]))
    assert (fate.name, fate.sound) == (name, sound)
    assert tally([fate, fate]) == {name: 2}


def test_the_fund_pays_accounts_and_offsets_are_no_payments() -> None:
    offset = [(1, OWNER, -50), (1, FUND, 50), (2, OWNER, 30)]
    paid = [(3, FUND, -70), (3, OWNER, 60), (3, OTHER, 10)]
    assert payments([_history(applied=offset + paid), _history(B, applied=[(2, OWNER, -30)])]) == {OWNER: 60, OTHER: 10}


def test_the_cascade_by_rung() -> None:
    fills = [
        _closed("auction", 5, cost=51 * UNIT, to_fund=10 * UNIT),
        _closed("auction", 6, OTHER),
        _closed("fund", 7),
        _closed("auction", 8, FUND),
    ]
    found = cascade([_history(closed=fills, applied=[(3, FUND, -7 * UNIT), (3, OWNER, 7 * UNIT)])])
    assert found["auction"] == {"fills": 2, "accounts": 2, "value": 5_000.0, "cost": 51.0, "toFund": 10.0}
    assert found["fund"] == {"fills": 1, "accounts": 1, "value": 2_500.0, "cost": 0.0, "toFund": 0.0}
    assert found["payment"] == {"accounts": 1, "value": 7.0}
    assert found["sold by the fund"] == {"fills": 1, "value": 2_500.0}
    assert "deleveraging" not in found


# --- latency -------------------------------------------------------------------------------------------------------


def test_latency_counts_from_the_first_batch_that_listed_the_leg() -> None:
    """A leg that was away for a batch is listed anew; another asset, or another chain, is another leg."""
    key = (A, OWNER, ETH)
    listed_ = ({key}, {key, (A, OWNER, BTC)}, {(B, OWNER, ETH)}, {key})
    legs = {epoch: frozenset(each) for epoch, each in enumerate(listed_, 1)}
    history = _history(
        posted=[(10, 1), (14, 2), (20, 3), (30, 4)],
        closed=[_closed("auction", 13), _closed("auction", 17), _closed("auction", 18, asset=BTC), _closed("fund", 34)],
        times={number: 1_000 + number // 2 for number in range(40)},
    )
    found = [(entry.block, blocks, seconds) for entry, blocks, seconds in latencies(history, legs)]
    assert found == [(13, 3, 1), (17, 7, 3), (18, 4, 2), (34, 4, 2)]


def test_a_fill_in_the_block_of_its_posting_took_no_block() -> None:
    history = _history(posted=[(10, 1)], closed=[_closed("auction", 10)], times={10: 1_000})
    assert [blocks for _, blocks, _ in latencies(history, {1: frozenset({(A, OWNER, ETH)})})] == [0]


@given(st.lists(st.integers(0, 1_000), min_size=1))
def test_quantiles_are_values_that_occurred(values: list[int]) -> None:
    found = quantiles(values)
    assert found["p50"] in values
    assert sum(value <= found["p50"] for value in values) * 2 >= len(values)
    assert sum(value <= found["p99"] for value in values) >= 0.99 * len(values)
    assert found["most"] == max(values)
    assert found["count"] == len(values)


def test_no_value_has_no_quantiles() -> None:
    assert quantiles([]) == {"p50": 0, "p99": 0, "most": 0, "count": 0}


def test_a_sample_counts_an_account_once_over_its_chains() -> None:
    def leaf(account: bytes, chain: int, equity: int, maintenance: int) -> dict[str, Any]:
        name = "0x" + account.hex()
        return {
            "accountId": name,
            "chainId": chain,
            "equity": str(equity * UNIT),
            "maintenanceMargin": str(maintenance * UNIT),
        }

    content: dict[str, Any] = {
        "batch": {"epoch": 9},
        "accounts": [leaf(OWNER, A, -5, 10), leaf(OWNER, B, -5, 10), leaf(OTHER, A, 5, 10), leaf(MAKER, A, 50, 10)],
        "legs": [
            {"accountId": "0x" + each.hex(), "chainId": A, "asset": "0x" + ETH.hex()} for each in (OWNER, FUND, MAKER)
        ],
        "settlements": [],
    }
    sample = sample_of(content)
    assert (sample.below, sample.negative, sample.deficit) == (2, 1, 5.0)
    assert (sample.legs, sample.sales, sample.fund_legs) == (1, 1, 1)
    assert legs_of(content) == {(A, OWNER, ETH)}
    assert not sample.quiet
    assert replace(sample, below=0, legs=0).quiet
