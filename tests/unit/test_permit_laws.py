"""Laws of the permit judgement, against an oracle that executes every subset and evaluates the whole portfolio.

The oracle shares nothing with the judgement but `evaluate`: what an act does to an account is written out here anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from random import Random

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from worlds import (
    BTC,
    ETH,
    LISTING,
    MAKER,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    UNIT,
    USDC,
    WETH,
    A,
    B,
    C,
    Chains,
    dollars,
    leg,
    marks,
    reserve,
    takeover,
    trade,
    usd,
    withdraw,
)

from keeper.attest.permits import CORNER_ITEMS, Context, Grant, Refusal, judge
from keeper.margin.portfolio import Portfolio, portfolio
from keeper.margin.report import AccountReport, evaluate
from keeper.market.marks import Marks
from keeper.state.actions import Reserve, Takeover, Trade, Withdraw
from keeper.state.ids import AssetId, token_id
from keeper.state.live import LegItem, LiveItem, PermitItem

SLACK = 4 * 10**12
"""Each figure is rounded to 1e-6 USD; a comparison of a few of them may be off by this."""
LEFT_OF_OTHER = leg(5, OTHER, mark=3010)
"""What takeovers take: a long of OTHER on A, marked 10 above the first mark of the tests."""
TERMS = {"insufficient_balance", "vault_short", "no_leg"}


@dataclass(frozen=True)
class Change:
    cash: int = 0
    positions: Mapping[AssetId, int] = field(default_factory=dict)
    collateral: Mapping[AssetId, int] = field(default_factory=dict)
    reserved: int = 0
    cash_part: int = 0
    funding: int = 0


def change(item: PermitItem, prices: Marks) -> Change:
    """What an act does to OWNER."""
    action = item.action
    if isinstance(action, Withdraw) and action.token == USDC:
        return Change(cash=-action.amount * 10**12)
    if isinstance(action, Withdraw):
        return Change(collateral={token_id(item.chain_id, WETH): -action.amount})
    if isinstance(action, Reserve):
        return Change(reserved=action.amount, cash_part=action.cash_part)
    if isinstance(action, Takeover):
        price = max(LEFT_OF_OTHER.leaf.mark_price, prices.prices["ETH"])
        return Change(cash=-(action.size * price // UNIT) - 1, positions={ETH: action.size})
    assert isinstance(action, Trade)
    size = action.size if item.orders[0].account_id == OWNER else -action.size
    notional = abs(size) * action.price // UNIT
    fee = notional * 2 // 10_000
    return Change(cash=(notional if size < 0 else -notional) - fee - 2, positions={item.orders[0].asset: size})


def subsets(items: Sequence[PermitItem]) -> Iterator[tuple[PermitItem, ...]]:
    for size in range(len(items) + 1):
        yield from combinations(items, size)


def after(book: Portfolio, items: Sequence[PermitItem], prices: Marks) -> Portfolio:
    for item in items:
        book = book.plus(change(item, prices))
    return book


def passes(before: AccountReport, executed: AccountReport, leg_is_live: bool, slack: int) -> bool:
    """The rule for one subset; `slack` is given away where negative, demanded where positive."""
    if not leg_is_live and executed.free * 50 >= executed.initial_margin + slack * 50:
        return True
    loss, relieved = before.equity - executed.equity, before.initial_margin - executed.initial_margin
    if executed.free < before.free + slack or loss * 10 > relieved - slack * 10:
        return False
    if before.equity < slack:
        return loss <= -slack
    return executed.equity >= slack


# --- generated accounts and items -----------------------------------------------------------------------------------

Spec = tuple[str, int, int, int]
"""A kind, a size in thousandths, a price off the mark in basis points, and a chain."""

chain_ids = st.sampled_from([A, B, C])
prices_off = st.one_of(st.just(0), st.integers(-150, 150))


def signed(most: int) -> st.SearchStrategy[int]:
    return st.integers(1, most).flatmap(lambda size: st.sampled_from([size, -size]))


specs = st.one_of(
    st.tuples(st.just("withdraw"), st.integers(1, 400_000), st.just(0), chain_ids),
    st.tuples(st.just("collateral"), st.integers(1, 900), st.just(0), st.just(A)),
    st.tuples(st.just("reserve"), st.integers(1, 400_000), st.integers(0, 10_000), chain_ids),
    st.tuples(st.just("take"), signed(3000), prices_off, chain_ids),
    st.tuples(st.just("make"), signed(1500), prices_off, chain_ids),
    st.tuples(st.just("bitcoin"), signed(60), prices_off, chain_ids),
    st.tuples(st.just("takeover"), st.integers(1, 1500), st.just(0), st.just(A)),
)


def built(spec: Spec) -> PermitItem:
    kind, number, off, chain_id = spec
    size, price = number / 1000, 3000 * (1 + off / 10_000)
    if kind == "withdraw":
        return withdraw(size, chain_id)
    if kind == "collateral":
        return withdraw(size, chain_id, token=WETH)
    if kind == "reserve":
        return reserve(size, chain_id, cash_part=round(size * off / 10_000, 6))
    if kind == "take":
        return trade(size, round(price, 2), chain_id)
    if kind == "make":
        return trade(size, round(price, 2), chain_id, account=MAKER, maker=OWNER)
    if kind == "bitcoin":
        return trade(size, round(price * 20, 2), chain_id, asset=BTC)
    return takeover(size)


@st.composite
def accounts(draw: st.DrawFn) -> Chains:
    """OWNER over three chains, at an equity from below zero to well above what is required."""
    chains = Chains().linked(OWNER, (A, B, C)).cash(MAKER, A, 9_000_000).size(OTHER, A, 5)
    chains.linked(MAKER, (A, B, C))
    chains.size(OWNER, A, draw(st.integers(-4000, 4000)) / 1000).size(OWNER, B, draw(st.integers(-4000, 4000)) / 1000)
    chains.size(OWNER, C, draw(st.sampled_from([0, 0, 0.05, -0.05])), BTC)
    chains.weth(OWNER, A, draw(st.sampled_from([0, 0, 1, 3])))
    if draw(st.booleans()):
        chains.reserved(OWNER, C, 50, until=NOW + 5000, cash_part=draw(st.sampled_from([0, 20])))
    bare = chains.report()
    target = dollars(bare.initial_margin) * draw(st.floats(-0.1, 2)) + draw(st.sampled_from([0, 100, 1000, 4000]))
    return chains.cash(OWNER, A, target - dollars(bare.equity))


some_marks = st.lists(st.sampled_from([marks(), marks(2950), marks(3060, 61_000)]), min_size=1, max_size=2)


def context_of(chains: Chains, prices: Sequence[Marks]) -> Context:
    return chains.context(*prices, legs=[LEFT_OF_OTHER])


# --- the laws -------------------------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(accounts(), specs, st.lists(specs, max_size=6), some_marks)
def test_cm_11_and_cm_21_a_verdict_is_that_of_every_subset(
    chains: Chains, act: Spec, others: list[Spec], prices: list[Marks]
) -> None:
    """CM-11, CM-21: a grant leaves every subset sound at every mark; up to four live items, a refusal names a true one.

    Sound: free margin with the act is at least the buffer, or greater than without it at a loss of at most a tenth of
    the margin relieved and with equity not below zero; and net cash, where settlement token leaves or is promised, is
    not below zero in any subset.
    """
    item, live = built(act), [built(spec) for spec in others]
    verdict = judge(item, live, context_of(chains, prices))
    book = portfolio(chains.world, LISTING, chains.account())
    surely = possibly = cash_surely = cash_possibly = True
    leaves = bool(book.cash_parts) or any(_leaves(entry) for entry in (item, *live))
    for mark in prices:
        books = [after(book, subset, mark) for subset in subsets(live)]
        reports = evaluate(books, mark, MODEL)
        executed = [after(entry, [item], mark) for entry in books]
        for before, with_act, held in zip(reports, evaluate(executed, mark, MODEL), executed, strict=True):
            surely &= passes(before, with_act, False, SLACK)
            possibly &= passes(before, with_act, False, -SLACK)
            if leaves:
                cash_surely &= with_act.net_cash - held.cash_parts >= SLACK
                cash_possibly &= with_act.net_cash - held.cash_parts >= -SLACK
    promised_only = not any(_leaves(entry) for entry in (item, *live))
    if isinstance(verdict, Grant):
        event("granted" + (", reducing" if verdict.reducing else ""))
        assert possibly, verdict
        assert cash_possibly or promised_only, verdict
    elif len(live) <= CORNER_ITEMS and verdict.code not in TERMS:
        event(f"refused: {verdict.code}")
        assert not (surely and cash_surely), verdict
        if verdict.code == "net_cash":
            assert not cash_surely


def _leaves(item: PermitItem) -> bool:
    action = item.action
    return (isinstance(action, Withdraw) and action.token == USDC) or (
        isinstance(action, Reserve) and action.cash_part > 0
    )


@settings(max_examples=120, deadline=None)
@given(accounts(), specs, st.lists(specs, max_size=6), some_marks)
def test_cm_11_the_least_free_margin_of_a_grant_is_that_of_the_worst_subset(
    chains: Chains, act: Spec, others: list[Spec], prices: list[Marks]
) -> None:
    """CM-11: `free_after` is never above it. A grant that does not reduce risk leaves the buffer in each subset."""
    item, live = built(act), [built(spec) for spec in others]
    verdict = judge(item, live, context_of(chains, prices))
    assume(isinstance(verdict, Grant))
    assert isinstance(verdict, Grant)
    book = portfolio(chains.world, LISTING, chains.account())
    for mark in prices:
        for report in evaluate([after(book, (item, *subset), mark) for subset in subsets(live)], mark, MODEL):
            assert verdict.free_after <= report.free + SLACK
            if not verdict.reducing:
                assert report.free * 50 >= report.initial_margin - SLACK * 50


@settings(max_examples=150, deadline=None)
@given(
    accounts(),
    specs,
    st.lists(specs, max_size=3),
    st.tuples(chain_ids, st.integers(1, 5000), st.integers(0, 40), st.integers(0, 2)),
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
)
def test_cm_11_beside_a_live_leg_an_act_frees_margin_whatever_part_of_the_leg_is_filled(
    chains: Chains, act: Spec, others: list[Spec], given_leg: tuple[int, int, int, int], parts: list[float]
) -> None:
    """CM-11: at the leg's worst price, for any part of it, filled before or after the subset."""
    chain_id, limit, concession, closed = given_leg
    position = chains.world[chain_id].sizes.get(OWNER, {}).get(ETH, 0)
    assume(position)
    side = 1 if position > 0 else -1
    chains.closed(OWNER, chain_id, closed)
    item, live = built(act), [built(spec) for spec in others]
    own = leg(side * (closed + limit / 1000), chain_id=chain_id, concession=concession, mark=2990)
    verdict = judge(item, [own, *live], context_of(chains, [marks()]))
    event(type(verdict).__name__)
    if not isinstance(verdict, Grant):
        return
    assert verdict.reducing
    book = portfolio(chains.world, LISTING, chains.account())
    for subset in subsets(live):
        executed = after(book, subset, marks())
        there = [change(e, marks()).positions.get(ETH, 0) for e in subset if e.chain_id == chain_id]
        for reach in (side * position, side * (position + sum(there))):
            for part in (0.0, 1.0, *parts):
                sold = int(max(0, min(reach, usd(limit / 1000))) * part)
                filled = executed.plus(_leg_change(own, side * sold))
                before, with_act = evaluate([filled, after(filled, [item], marks())], marks(), MODEL)
                assert with_act.free >= before.free - SLACK


def _leg_change(item: LegItem, closed: int) -> Change:
    worst = item.leaf.mark_price - (item.leaf.max_concession if closed > 0 else -item.leaf.max_concession)
    fee = UNIT * abs(closed) // abs(item.leaf.close_limit)
    return Change(cash=closed * worst // UNIT - fee - 1, positions={item.leaf.asset: -closed})


legs = st.tuples(chain_ids, signed(5000), st.integers(0, 40))


def any_items(entries: list[Spec | tuple[int, int, int]]) -> list[LiveItem]:
    """Acts, and legs of successive batches."""
    items: list[LiveItem] = []
    for age, entry in enumerate(entries):
        if len(entry) == 4:
            items.append(built(entry))
        else:
            chain_id, size, concession = entry
            items.append(leg(size / 1000, chain_id=chain_id, concession=concession, timestamp=NOW - age))
    return items


@settings(max_examples=150, deadline=None)
@given(accounts(), specs, st.lists(st.one_of(specs, legs), min_size=1, max_size=7), some_marks)
def test_one_more_live_item_never_turns_a_refusal_into_a_grant(
    chains: Chains, act: Spec, added: list[Spec | tuple[int, int, int]], prices: list[Marks]
) -> None:
    """CM-11 is monotone. (That a takeover is granted only once its leg is live is its terms, and the leg is given.)"""
    item, live = built(act), any_items(added)
    context = context_of(chains, prices)
    verdicts = [judge(item, live[:count], context) for count in range(len(live) + 1)]
    event(f"turned to a refusal: {isinstance(verdicts[0], Grant) and isinstance(verdicts[-1], Refusal)}")
    for fewer, more in pairwise(verdicts):
        assert isinstance(fewer, Grant) or isinstance(more, Refusal), (fewer, more)
        # The figure is the bound's where that passes, and that of the exact corners else: each falls by itself.
        if isinstance(fewer, Grant) and isinstance(more, Grant) and fewer.reducing == more.reducing:
            assert more.free_after <= fewer.free_after + SLACK


@settings(max_examples=100, deadline=None)
@given(accounts(), specs, st.lists(st.one_of(specs, legs), min_size=2, max_size=6), some_marks, st.randoms())
def test_the_order_of_the_list_and_dead_items_in_it_do_not_matter(
    chains: Chains, act: Spec, others: list[Spec | tuple[int, int, int]], prices: list[Marks], random: Random
) -> None:
    item, live = built(act), any_items(others)
    context = context_of(chains, prices)
    dead: list[LiveItem] = [withdraw(500, deadline=NOW - 1), leg(3, timestamp=NOW - 61)]
    shuffled = [*live, *live[:1], item, *dead]
    random.shuffle(shuffled)
    one, other = judge(item, live, context), judge(item, shuffled, context)
    if isinstance(one, Refusal) and isinstance(other, Refusal):
        assert set(one.live) == set(other.live)
        assert {**one.figures(), "live": []} == {**other.figures(), "live": []}
        assert one.code == other.code
    else:
        assert one == other


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(1, 300)), min_size=1, max_size=9),
    st.integers(0, 3),
)
def test_cm_21_grants_one_after_another_never_take_more_than_net_cash(
    cash: int, asked: list[tuple[int, int]], tokens: int
) -> None:
    """CM-21: whatever is asked of an account with collateral, what is granted sums to at most its cash."""
    chains = Chains().cash(OWNER, A, cash).weth(OWNER, B, tokens).linked(OWNER, (A, B, C))
    live: list[LiveItem] = []
    total = 0
    for chain_id, amount in asked:
        item = withdraw(amount, chain_id)
        fits = total + amount <= cash
        assert isinstance(judge(item, live, chains.context()), Grant) == fits
        if fits:
            live.append(item)
            total += amount
