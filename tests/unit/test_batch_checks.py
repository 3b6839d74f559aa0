"""Batches: an honest one has no fault, and each single lie of a proposer is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from worlds import (
    BTC,
    DEPLOYMENT,
    ETH,
    LISTING,
    MAKER,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    PARAMETERS,
    UNIT,
    WETH,
    A,
    B,
    C,
    Chains,
    inputs,
    leg,
    marks,
    usd,
)

from keeper.attest.batch import (
    BatchContent,
    build_batch,
    leaf_faults,
    listed_assets,
    margin_leaves,
    reports_at,
    structural_faults,
    with_roots,
)
from keeper.attest.codec import cut_hash
from keeper.market.inputs import SettledInput
from keeper.market.marks import Marks
from keeper.state.batch import ChainCut, MarginLeaf, SettlementLeaf
from keeper.state.ids import FEES, FUND, account_id, perpetual, token_id
from keeper.state.world import World

MINIMUM = PARAMETERS.minimum_equity


def some_chains() -> Chains:
    """OWNER linked over A and B, OTHER with WETH on A and, unlinked, cash on C, MAKER below the minimum equity."""
    chains = Chains().size(OWNER, A, 1).cash(OWNER, B, 1000 - 3000).linked(OWNER, (A, B))
    chains.weth(OTHER, A, 2).cash(OTHER, C, 400).cash(MAKER, A, 9.99).cash(FUND, A, 5000).cash(FEES, B, 70)
    return chains


def cut_at(head_time: int = NOW + 4) -> list[ChainCut]:
    """Heads a second apart, the newest on A."""
    return [ChainCut(chain_id, 100, bytes([n]) * 32, NOW, 104, head_time - n) for n, chain_id in enumerate((A, B, C))]


def honest(world: World | None = None, prices: Marks | None = None) -> BatchContent:
    world, prices = world or some_chains().world, prices or marks()
    reports = reports_at(world, prices, MODEL, LISTING)
    legs = [leg(1, OWNER, A).leaf]
    return build_batch(DEPLOYMENT, MODEL, list(reversed(cut_at())), inputs(prices), reports, legs, MINIMUM)


def faults(content: BatchContent, world: World | None = None) -> list[str]:
    """All that an attestor finds in what it can check of a batch by itself; recomputed from the proposed prices."""
    found = structural_faults(content, DEPLOYMENT)
    if found:
        return found
    reports = reports_at(world or some_chains().world, content.prices, MODEL, LISTING)
    return leaf_faults(content, reports, MODEL, MINIMUM)


def sealed(content: BatchContent, **changes: object) -> BatchContent:
    """The lie with the roots and the hash of the cut that it has, as a careful liar would propose it."""
    changed = replace(content, **changes)  # type: ignore[arg-type]
    return replace(changed, batch=replace(with_roots(changed), cut_hash=cut_hash(changed.cut)))


def test_an_honest_batch_has_no_fault_and_says_what_it_should() -> None:
    content = honest()
    assert faults(content) == []
    batch = content.batch
    assert (batch.timestamp, batch.epoch, batch.valid_until) == (NOW + 4, (NOW + 4) // 2, NOW + 304)
    assert [entry.chain_id for entry in content.cut] == [A, B, C]
    # 1 ETH: equity 1,000, IM 534, MM 420, on either linked chain; 2 WETH: 5,820, 900, 720; what is alone is alone;
    # nothing for 9.99, and nothing for the fund and the fees.
    assert content.accounts == (
        MarginLeaf(OWNER, A, usd(1000), usd(534), usd(420)),
        MarginLeaf(OWNER, B, usd(1000), usd(534), usd(420)),
        MarginLeaf(OTHER, A, usd(5820), usd(900), usd(720)),
        MarginLeaf(OTHER, C, usd(400), 0, 0),
    )
    assert [leaf.asset for leaf in content.marks] == [*(token_id(c, WETH) for c in (A, B, C)), BTC, ETH]
    eth = content.marks[-1]
    assert (eth.price, eth.long_requirement, eth.short_requirement) == (usd(3000), usd(534), usd(534))
    # A token's long requirement is its haircut, 90, and its scenario loss, 450.
    assert (content.marks[0].long_requirement, content.marks[0].short_requirement) == (usd(540), usd(450))
    assert content.prices.prices == marks().prices
    assert content.prices.time == NOW + 4
    assert content.late == ()
    assert content.chain_cut(B) == cut_at()[1]
    assert content.chain_cut(7) is None


def test_the_same_inputs_give_the_same_bytes_in_any_order() -> None:
    """A batch is a function of world, cut and marks: whoever has these has its bytes."""
    world, prices = some_chains().world, marks()
    reports = reports_at(world, prices, MODEL, LISTING)
    one = build_batch(DEPLOYMENT, MODEL, cut_at(), inputs(prices), reports, [], MINIMUM)
    other = build_batch(DEPLOYMENT, MODEL, cut_at()[::-1], inputs(prices), reports[::-1], [], MINIMUM)
    assert one == other
    assert one.batch.liquidations_root == bytes(32)


def test_a_late_chain_does_not_set_the_time() -> None:
    late = [replace(entry, late=entry.chain_id == A) for entry in cut_at()]
    content = build_batch(DEPLOYMENT, MODEL, late, inputs(time=NOW + 3), [], [], MINIMUM)
    assert content.batch.timestamp == NOW + 3
    assert content.late == (A,)
    assert structural_faults(content, DEPLOYMENT) == []
    all_late = replace(content, cut=tuple(replace(entry, late=True) for entry in content.cut))
    assert any("not the largest head time" in fault for fault in faults(sealed(all_late)))


# --- lies in the leaves ---------------------------------------------------------------------------------------------


def with_leaf(position: int, **changes: object) -> Callable[[BatchContent], BatchContent]:
    def lie(content: BatchContent) -> BatchContent:
        leaves = list(content.accounts)
        leaves[position] = replace(leaves[position], **changes)  # type: ignore[arg-type]
        return sealed(content, accounts=tuple(leaves))

    return lie


def with_mark(position: int, **changes: object) -> Callable[[BatchContent], BatchContent]:
    def lie(content: BatchContent) -> BatchContent:
        leaves = list(content.marks)
        leaves[position] = replace(leaves[position], **changes)  # type: ignore[arg-type]
        return sealed(content, marks=tuple(leaves))

    return lie


def more_leaves(*leaves: MarginLeaf) -> Callable[[BatchContent], BatchContent]:
    return lambda content: sealed(content, accounts=(*content.accounts, *leaves))


NOBODY = account_id(b"\x77" * 20)


@pytest.mark.parametrize(
    ("lie", "names"),
    [
        (with_leaf(0, equity=usd(1000.01)), [OWNER.hex(), "equity 1000.010000, ours is 1000.000000"]),
        (with_leaf(0, equity=usd(999.99)), ["equity 999.990000, ours is 1000.000000"]),
        (with_leaf(1, initial_margin=usd(533.99)), [f"on chain {B}", "initial margin 533.990000, ours is 534.0000"]),
        (with_leaf(1, maintenance_margin=0), ["maintenance margin 0.000000, ours is 420.000000"]),
        (with_leaf(2, escape_limit=usd(1)), ["escape limit 1.000000, ours is 0.000000"]),
        (with_leaf(3, equity=-usd(400)), ["equity -400.000000, ours is 400.000000"]),
        (with_leaf(0, equity=usd(1000) + 2 * 10**13), ["equity 1000.000020"]),  # beyond 1e-9 of 3,000
        (more_leaves(MarginLeaf(OTHER, B, usd(5820), usd(900), usd(720))), [f"chain {B}: we have no leaf"]),
        (more_leaves(MarginLeaf(OWNER, C, usd(1000), usd(534), usd(420))), [f"chain {C}: we have no leaf"]),
        (more_leaves(MarginLeaf(NOBODY, A, usd(50), 0, 0)), [f"0x{NOBODY.hex()}", "we have no leaf"]),
        (more_leaves(MarginLeaf(FUND, A, usd(5000), 0, 0)), [f"0x{FUND.hex()}", "we have no leaf"]),
        (lambda c: sealed(c, accounts=c.accounts[1:]), [f"on chain {A}: the proposal has no leaf"]),
        (lambda c: sealed(c, accounts=c.accounts[:3]), [OTHER.hex(), f"chain {C}: the proposal has no leaf"]),
        (lambda c: sealed(c, accounts=()), ["the proposal has no leaf"]),
        (with_mark(4, long_requirement=usd(533)), [ETH.hex(), "long requirement 533.000000, ours is 534.000000"]),
        (with_mark(4, short_requirement=0), ["short requirement 0.000000, ours is 534.000000"]),
        (with_mark(0, price=usd(3001)), [token_id(A, WETH).hex(), "price 3001.000000, ours is 3000.000000"]),
        (with_mark(3, funding_index=UNIT), [BTC.hex(), "funding index 1.000000, ours is 0.000000"]),
        (with_mark(3, settled_at=NOW), [BTC.hex(), "expiry"]),
    ],
)
def test_one_lie_in_a_leaf_is_found(lie: Callable[[BatchContent], BatchContent], names: list[str]) -> None:
    found = faults(lie(honest()))
    assert any(all(name in fault for name in names) for fault in found), found


def test_another_index_is_found_by_every_mark_and_account_that_follows_from_it() -> None:
    """Inputs are judged against one's own; that leaves were computed from them is judged here."""
    content = honest()
    found = faults(sealed(content, inputs=inputs(marks(3030))))
    assert any(f"mark 0x{ETH.hex()}: long requirement" in fault for fault in found)
    assert any(f"0x{OWNER.hex()} on chain {A}: equity 1000.000000, ours is 1030.000000" in fault for fault in found)
    assert any(f"mark 0x{token_id(A, WETH).hex()}: price" in fault for fault in found)
    assert faults(with_mark(4, price=usd(3030))(content)) == [
        f"mark 0x{ETH.hex()}: price 3030.000000, ours is 3000.000000"
    ]


@pytest.mark.parametrize(
    "leaf",
    [
        MarginLeaf(NOBODY, A, MINIMUM, 0, 0),
        MarginLeaf(OTHER, B, MINIMUM, 0, 0),
        MarginLeaf(MAKER, A, MINIMUM, 0, 0),
        MarginLeaf(FUND, A, MINIMUM, 0, 0),
        MarginLeaf(NOBODY, A, MINIMUM, 0, 0, escape_limit=usd(1_000_000)),
    ],
)
def test_an_account_that_has_nothing_is_not_given_the_minimum_equity(leaf: MarginLeaf) -> None:
    """A leaf at the minimum equity is a matter of rounding only for an account whose equity is there."""
    found = faults(more_leaves(leaf)(honest()))
    assert any(f"0x{leaf.account_id.hex()} on chain {leaf.chain_id}" in fault for fault in found), found


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_sequence_31_one_dust_account_that_rounds_differently_does_not_stop_a_batch(off: int) -> None:
    """Compared to the last digit, nothing would ever be signed.

    Within 2e-6 of the minimum equity a leaf may be there or not; its figures may
    differ by as much.
    """
    chains = some_chains().cash(MAKER, A, 10 + off * 1e-6)
    with_it = honest(chains.world)
    leaf = MarginLeaf(MAKER, A, usd(10 + off * 1e-6), 0, 0)
    assert (leaf in with_it.accounts) == (off >= 0)
    others = tuple(entry for entry in with_it.accounts if entry != leaf)
    for accounts in (others, (*others, leaf), (*others, replace(leaf, equity=usd(10)))):
        assert faults(sealed(with_it, accounts=accounts), chains.world) == []
    lied = sealed(with_it, accounts=(*others, replace(leaf, escape_limit=usd(1))))
    assert any("escape limit" in fault or "we have no leaf" in fault for fault in faults(lied, chains.world))
    assert faults(with_leaf(0, equity=usd(1000) + 10**12)(honest())) == []


def test_an_account_at_the_minimum_equity_with_something_required_is_not_left_out() -> None:
    world = some_chains().size(MAKER, A, 0.001).cash(MAKER, A, 10 - 3).world
    content = honest(world)
    position = [leaf.account_id for leaf in content.accounts].index(MAKER)
    assert (content.accounts[position].equity, content.accounts[position].initial_margin) == (usd(10), usd(0.534))
    others = (*content.accounts[:position], *content.accounts[position + 1 :])
    assert any("the proposal has no leaf" in fault for fault in faults(sealed(content, accounts=others), world))


def test_the_tolerance_grows_with_the_notional() -> None:
    # 100,000 ETH are 3e8 USD: 1e-9 of it is 0.3.
    world = some_chains().size(MAKER, C, 100_000).cash(MAKER, C, -200_000_000).world
    position = [leaf.account_id for leaf in honest(world).accounts].index(MAKER)
    equity = honest(world).accounts[position].equity
    assert faults(with_leaf(position, equity=equity + usd(0.29))(honest(world)), world) == []
    assert faults(with_leaf(position, equity=equity + usd(0.31))(honest(world)), world) != []


# --- lies in the header, the cut and the form -----------------------------------------------------------------------


def header(**changes: object) -> Callable[[BatchContent], BatchContent]:
    return lambda content: replace(content, batch=replace(content.batch, **changes))  # type: ignore[arg-type]


def cut(position: int, **changes: object) -> Callable[[BatchContent], BatchContent]:
    def lie(content: BatchContent) -> BatchContent:
        entries = list(content.cut)
        entries[position] = replace(entries[position], **changes)  # type: ignore[arg-type]
        return sealed(content, cut=tuple(entries))

    return lie


@pytest.mark.parametrize(
    ("lie", "names"),
    [
        (header(accounts_root=b"\1" * 32), "the roots are not those of the leaves"),
        (header(marks_root=bytes(32)), "the roots are not those of the leaves"),
        (header(liquidations_root=bytes(32)), "the roots are not those of the leaves"),
        (header(settlements_root=b"\1" * 32), "the roots are not those of the leaves"),
        (lambda c: replace(c, legs=()), "the roots are not those of the leaves"),
        (header(cut_hash=bytes(32)), "cutHash is not that of the cut"),
        (lambda c: replace(c, cut=c.cut[::-1]), "cutHash is not that of the cut"),
        (lambda c: sealed(c, cut=c.cut[::-1]), f"the cut names chains [{C}, {B}, {A}]"),
        (lambda c: sealed(c, cut=c.cut[:2]), f"the cut names chains [{A}, {B}]"),
        (lambda c: sealed(c, cut=(*c.cut, c.cut[2])), f"the cut names chains [{A}, {B}, {C}, {C}]"),
        (lambda c: sealed(c, cut=()), "timestamp"),
        (cut(1, chain_id=4), "the cut names chains"),
        (cut(0, head_time=NOW + 5), f"timestamp {NOW + 4} is not the largest head time"),
        (cut(0, late=True), f"timestamp {NOW + 4} is not the largest head time"),
        (header(timestamp=NOW + 5), f"timestamp {NOW + 5} is not the largest head time"),
        (header(epoch=NOW // 2 + 3), f"epoch {NOW // 2 + 3} is not that of timestamp {NOW + 4}"),
        (header(valid_until=NOW + 305), f"valid until {NOW + 305}, wanted {NOW + 304}"),
        (header(parameters_hash=b"\2" * 32), "parameters 0x0202"),
        (header(attestor_set_id=2), "attestor set 2, ours is 1"),
        (lambda c: sealed(c, marks=c.marks[:4]), "the marks are not those of the listed assets"),
        (lambda c: sealed(c, marks=(*c.marks, c.marks[0])), "the marks are not those of the listed assets"),
        (with_mark(4, asset=perpetual("SOL")), "the marks are not those of the listed assets"),
        (lambda c: sealed(c, accounts=(*c.accounts, c.accounts[0])), "two account leaves for one account and chain"),
        (
            lambda c: sealed(c, accounts=(*c.accounts, replace(c.accounts[0], equity=usd(10**6)))),
            "two account leaves for one account and chain",
        ),
        (lambda c: sealed(c, legs=(*c.legs, leg(2, OWNER, A).leaf)), "two leg leaves for one account, chain and asset"),
        (
            lambda c: sealed(c, settlements=(SettlementLeaf(1, OWNER, A, UNIT), SettlementLeaf(1, OWNER, A, 0))),
            "two settlement leaves for one cycle, account and chain",
        ),
        (lambda c: sealed(c, inputs=replace(c.inputs, time=NOW)), f"inputs of {NOW}, the batch is of {NOW + 4}"),
        (lambda c: sealed(c, inputs=replace(c.inputs, underlyings=c.inputs.underlyings[:1])), "inputs for BTC, wanted"),
        (lambda c: sealed(c, inputs=replace(c.inputs, funding=())), "funding is not that of every underlying"),
        (
            lambda c: sealed(c, inputs=replace(c.inputs, settled=(SettledInput(ETH, UNIT),))),
            f"0x{ETH.hex()} is settled and not listed",
        ),
    ],
)
def test_one_lie_in_the_form_is_found(lie: Callable[[BatchContent], BatchContent], names: str) -> None:
    found = structural_faults(lie(honest()), DEPLOYMENT)
    assert any(names in fault for fault in found), found


def test_holdings_that_moved_make_other_leaves() -> None:
    """CM-10: the batch of another final block than the cut names is a batch with wrong leaves."""
    later = some_chains().cash(OWNER, B, 900 - 3000).world
    assert any("equity 900.000000, ours is 1000.000000" in fault for fault in faults(honest(later)))
    # A link that only one chain names joins nothing (CM-09).
    one_sided = some_chains().link(OTHER, A, [C]).world
    assert honest(one_sided).accounts == honest().accounts
    joined = honest(some_chains().linked(OTHER, (A, C)).world)
    assert any(f"0x{OTHER.hex()} on chain {C}: equity 6220" in fault for fault in faults(joined))


def test_what_gets_a_leaf() -> None:
    """Accounts with something required have one whatever their equity is, others from the minimum equity on."""
    chains = Chains().cash(OWNER, A, 10).cash(OTHER, A, 9.999999).cash(MAKER, A, -5).size(MAKER, B, 0.001)
    reports = reports_at(chains.world, marks(), MODEL, LISTING)
    assert {(leaf.account_id, leaf.chain_id) for leaf in margin_leaves(reports, MINIMUM)} == {(OWNER, A), (MAKER, B)}
    assert listed_assets(DEPLOYMENT) == sorted(listed_assets(DEPLOYMENT))
