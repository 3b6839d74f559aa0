"""Requests: who may ask for what, in which words, until when; and what an attestor refuses before it judges margin.

The attestors here have real keys and journals. Their chains are states given to them instead of polled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from worlds import (
    BTC,
    DEPLOYMENT,
    ETH,
    INTEGRATOR,
    LISTING,
    MAKER,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    PARAMETERS,
    USDC,
    A,
    B,
    C,
    Chains,
    inputs,
    leg,
    make_deployment,
    marks,
    permit,
    refused,
    trade,
    units,
    usd,
    withdraw,
)

from keeper.attest.batch import build_batch, reports_at
from keeper.attest.codec import keccak, struct_hash
from keeper.attest.permits import MOST_ASSETS, Context, Grant, judge
from keeper.attest.requests import RequestError, check_item, order_digest, permit_for, request_digest
from keeper.attest.signatures import sign_digest
from keeper.attest.signing import LocalSigner
from keeper.margin.listing import Listing
from keeper.margin.xpm import Xpm
from keeper.market.marks import Marks
from keeper.node.attestor import Attestor
from keeper.node.batches import BatchBook
from keeper.node.config import NodeConfig
from keeper.node.refusal import Refused
from keeper.node.view import ChainsView
from keeper.state.actions import Action, Move, Order, Reserve, Takeover, Trade, Unlink, Withdraw
from keeper.state.ids import AccountId, Address, account_id, perpetual
from keeper.state.live import PermitItem
from keeper.state.world import World
from keeper.store.journal import Journal

KEYS = [keccak(b"owner %d" % n) for n in range(3)]
ALICE, BOB, CAROL = (account_id(LocalSigner(key).address) for key in KEYS)
KEY_OF = dict(zip((ALICE, BOB, CAROL), KEYS, strict=True))
DEADLINE = NOW + 60


def asked(
    action: Withdraw | Reserve | Takeover, chain_id: int = A, nonce: int = 1, deadline: int = DEADLINE
) -> PermitItem:
    """A request that its owner signed."""
    item = PermitItem(chain_id, permit_for(DEPLOYMENT, action, nonce, deadline), action, ())
    return replace(item, signatures=(sign_digest(request_digest(DEPLOYMENT, item), KEY_OF[action.account_id]),))


def cash_out(amount: float, account: AccountId = ALICE, **where: int) -> PermitItem:
    return asked(Withdraw(account, USDC, round(amount * 10**6), Address(account[:20])), **where)


def matched(**changes: Any) -> PermitItem:
    """BOB makes, ALICE takes: she buys 2 of his 3 at 3,000. `changes` by name: maker_, taker_, or of the trade."""
    maker = Order(BOB, ETH, -units(3), usd(2990), usd(1), 5, NOW + 90)
    taker = Order(ALICE, ETH, units(2), usd(3010), usd(1), 6, NOW + 90)
    maker = replace(maker, **{k[6:]: v for k, v in changes.items() if k.startswith("maker_")})
    taker = replace(taker, **{k[6:]: v for k, v in changes.items() if k.startswith("taker_")})
    terms = {"size": -units(2), "price": usd(3000)} | {k: v for k, v in changes.items() if k in ("size", "price")}
    action = Trade(struct_hash(maker), struct_hash(taker), **terms)
    signatures = tuple(
        sign_digest(order_digest(DEPLOYMENT, A, order), KEY_OF[order.account_id]) for order in (maker, taker)
    )
    item = PermitItem(A, permit_for(DEPLOYMENT, action, 7, DEADLINE, (maker, taker)), action, (), (maker, taker))
    return replace(item, signatures=signatures)


GOOD = cash_out(5)
MATCH = matched()


def test_what_the_owners_signed_is_taken_up() -> None:
    check_item(GOOD, DEPLOYMENT)
    check_item(asked(Reserve(ALICE, INTEGRATOR, usd(5), usd(1), NOW)), DEPLOYMENT)
    check_item(asked(Takeover(ALICE, BOB, ETH, units(1))), DEPLOYMENT)
    check_item(MATCH, DEPLOYMENT)
    check_item(leg(1), DEPLOYMENT)
    assert MATCH.accounts == (BOB, ALICE)


def _other(item: PermitItem, **permit_changes: object) -> PermitItem:
    return replace(item, permit=replace(item.permit, **permit_changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (replace(GOOD, chain_id=4), "unknown_chain"),
        (replace(GOOD, chain_id=B), "owner_signature"),  # asked for on A
        (replace(GOOD, signatures=()), "signatures"),
        (replace(GOOD, signatures=GOOD.signatures * 2), "signatures"),
        (replace(GOOD, signatures=(bytes(65),)), "owner_signature"),
        (replace(GOOD, signatures=cash_out(5, BOB).signatures), "owner_signature"),
        (_other(GOOD, nonce=2), "owner_signature"),
        (_other(GOOD, deadline=DEADLINE + 1), "owner_signature"),
        (_other(GOOD, attestor_set_id=2), "attestor_set"),
        (_other(GOOD, account_id=BOB), "permit_mismatch"),
        (_other(GOOD, counterparty_id=BOB), "permit_mismatch"),
        (_other(GOOD, action_hash=bytes(32)), "permit_mismatch"),
        (replace(GOOD, action=replace(GOOD.action, amount=6)), "permit_mismatch"),
        (replace(GOOD, orders=MATCH.orders), "orders"),
        (replace(MATCH, orders=MATCH.orders[:1]), "orders"),
        (replace(MATCH, signatures=MATCH.signatures[:1]), "signatures"),
        (replace(MATCH, signatures=MATCH.signatures[::-1]), "owner_signature"),
        (replace(MATCH, orders=(replace(MATCH.orders[0], nonce=9), MATCH.orders[1])), "order_hash"),
        (replace(MATCH, chain_id=B), "owner_signature"),
        (matched(taker_asset=BTC), "trade_terms"),
        (matched(taker_account_id=BOB), "trade_terms"),
        (matched(size=0), "trade_terms"),
        (matched(size=units(2)), "trade_terms"),
        (matched(taker_size=-units(2)), "trade_terms"),
        (matched(size=-units(2.1)), "trade_terms"),
        (matched(price=usd(3010.01)), "trade_terms"),
        (matched(price=usd(2989.99)), "trade_terms"),
        (matched(taker_deadline=DEADLINE - 1), "trade_terms"),
        (leg(1, chain_id=4), "unknown_chain"),
        (PermitItem(A, permit(A, Unlink(ALICE, B), ALICE), Unlink(ALICE, B), ()), "permit_mismatch"),
        (PermitItem(A, permit(A, Move(ALICE, BOB, ETH, 1), ALICE), Move(ALICE, BOB, ETH, 1), ()), "not_one_owner"),
    ],
)
def test_what_they_did_not_sign_is_refused_by_name(item: PermitItem, code: str) -> None:
    with pytest.raises(RequestError) as refusal:
        check_item(item, DEPLOYMENT)
    assert refusal.value.code == code


# --- acts that cannot be judged -------------------------------------------------------------------------------------

_TOKEN = Address(b"\x99" * 20)
_RECEIVER = Address(OWNER[:20])


def rich(*accounts: AccountId) -> Chains:
    chains = Chains()
    for account in accounts:
        chains.cash(account, A, 1_000_000)
    return chains


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Withdraw(OWNER, USDC, 0, _RECEIVER), "bad_amount"),
        (Withdraw(OWNER, USDC, -1, _RECEIVER), "bad_amount"),
        (Withdraw(OWNER, USDC, 2**128, _RECEIVER), "bad_amount"),
        (Withdraw(OWNER, _TOKEN, 1, _RECEIVER), "unknown_asset"),
        (Reserve(OWNER, INTEGRATOR, 0, 0, NOW), "bad_amount"),
        (Reserve(OWNER, INTEGRATOR, 5, 6, NOW), "bad_amount"),
        (Reserve(OWNER, INTEGRATOR, 5, -1, NOW), "bad_amount"),
        (Takeover(OWNER, OTHER, ETH, -1), "bad_amount"),
        (Takeover(OWNER, OTHER, perpetual("DOGE"), 1), "unknown_asset"),
        (Move(OWNER, OTHER, ETH, 1), "not_one_owner"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(action: Action, code: str) -> None:
    refusal = refused(PermitItem(A, permit(A, action, OWNER), action, ()), [], rich(OWNER).context(), code)
    assert refusal.account == OWNER


def test_trades_without_size_or_price_and_what_nobody_lists() -> None:
    context = rich(OWNER, MAKER).context()
    good = trade(1)
    assert isinstance(good.action, Trade)
    for change in ({"size": 0}, {"price": 0}, {"price": -1}, {"size": 2**128}):
        refused(replace(good, action=replace(good.action, **change)), [], context, "bad_amount")
    refused(replace(withdraw(1), chain_id=4), [], context, "unknown_chain")
    unknown = trade(1, asset=perpetual("DOGE"))
    refused(unknown, [], context, "unknown_asset")
    assert refused(withdraw(1), [unknown], context, "unknown_asset").free is None  # what is live has no price


def test_an_account_holds_a_bounded_number_of_assets() -> None:
    names = [*(f"U{n:02}" for n in range(MOST_ASSETS + 1)), "ETH"]
    deployment = make_deployment(names)
    parameters = replace(PARAMETERS, underlyings=dict.fromkeys(names, PARAMETERS.underlyings["ETH"]))
    listing, prices = Listing.of(deployment), Marks({name: usd(1) for name in names})
    chains = rich(OWNER, MAKER)
    for name in names[: MOST_ASSETS - 1]:
        chains.size(OWNER, A, 1, perpetual(name))
    context = Context(chains.world, (prices,), Xpm(parameters, listing), listing, deployment, parameters)
    one, more = (trade(1, price=1, asset=perpetual(name)) for name in names[MOST_ASSETS - 1 : MOST_ASSETS + 1])
    assert isinstance(judge(one, [], context), Grant)
    assert f"{MOST_ASSETS + 1} assets" in refused(more, [one], context, "position_limit").message


# --- before margin is judged: heads, nonces, deadlines --------------------------------------------------------------

ATTESTOR = LocalSigner(keccak(b"attestor"))
SIGNED_BY = replace(DEPLOYMENT, attestors=(ATTESTOR.address,), threshold=1)
LATE = NodeConfig.model_fields["late_after_seconds"].default


def funded() -> Chains:
    """1,000 on A, linked to B."""
    return Chains().cash(ALICE, A, 1000).linked(ALICE, (A, B))


def attest(folder: Path, final: World, head: World, ask: Callable[[Attestor], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        view = ChainsView(SIGNED_BY, NodeConfig(deployment=folder, state_dir=folder, profile="devnet"))
        journal = Journal.open(folder / "journal.db")
        show(view, final, head)
        book = BatchBook(SIGNED_BY, journal, MODEL)
        try:
            await ask(Attestor(SIGNED_BY, LISTING, MODEL, PARAMETERS, view, journal, book, ATTESTOR))
        finally:
            journal.close()
            await view.close()

    asyncio.run(run())


def show(view: ChainsView, final: World, head: World) -> None:
    """What polling would have found."""
    for chain_id, follower in view.followers.items():
        follower._remember(final[chain_id])
        follower._head = head[chain_id]
        time = head[chain_id].block.time
        follower.feeds = {name: (price, 18, time, True) for name, price in (*marks().prices.items(), ("USDC", usd(1)))}


async def refusal_of(attestor: Attestor, item: PermitItem, *listed: PermitItem) -> Refused:
    with pytest.raises(Refused) as refusal:
        await attestor.sign_permit(item, listed)
    return refusal.value


@pytest.mark.parametrize(
    ("chains", "item", "code", "names"),
    [
        (funded().time(B, NOW - LATE - 1), GOOD, "chain_late", f"chain B ({B}): head is {LATE + 1} s behind"),
        (funded().time(C, NOW - 900), GOOD, "chain_late", f"chain C ({C}): head is 900 s behind"),
        (funded(), cash_out(5, deadline=NOW), "deadline", "0 s after the head of chain"),
        (funded(), cash_out(5, deadline=NOW + 301), "deadline", "wanted 1 to 300 s"),
        (funded().used(GOOD), GOOD, "nonce_used", f"nonce 1 is spent on chain {A}"),
        (funded(), replace(GOOD, signatures=(bytes(65),)), "owner_signature", ""),
        (funded(), cash_out(1000.01), "insufficient_free_margin", "free 1,000.00 USD, asked 1,000.01 USD"),
    ],
)
def test_an_attestor_refuses_by_name_and_journals_nothing(
    tmp_path: Path, chains: Chains, item: PermitItem, code: str, names: str
) -> None:
    """CM-12, CM-14: no permit outlives its head by more than 300 s, and none is signed while a chain is late."""

    async def ask(attestor: Attestor) -> None:
        refusal = await refusal_of(attestor, item)
        assert refusal.code == code
        assert names in refusal.message
        assert attestor.journal.live(None) == []

    attest(tmp_path, funded().world, chains.world, ask)


def test_an_attestor_signs_up_to_the_limits(tmp_path: Path) -> None:
    async def ask(attestor: Attestor) -> None:
        last = cash_out(5, deadline=NOW + 300)
        await attestor.sign_permit(last, [])
        assert attestor.journal.live(None) == [last]
        await attestor.sign_permit(cash_out(5, nonce=2, deadline=NOW + 1), [last])
        await attestor.sign_permit(cash_out(5, nonce=1, chain_id=B), attestor.journal.live(None))

    attest(tmp_path, funded().world, funded().time(B, NOW - LATE).world, ask)


def test_cm_12_a_head_past_the_deadline_frees_nothing_and_a_final_block_does(tmp_path: Path) -> None:
    """CM-12, CM-13: 700 of 1,000 are promised until NOW + 60 on B; whatever heads say, its final block decides."""

    async def ask(attestor: Attestor) -> None:
        first = cash_out(700, chain_id=B)
        await attestor.sign_permit(first, [])
        more = cash_out(400, nonce=2, deadline=NOW + 200)
        heads = funded().time(A, NOW + 61).time(B, NOW + 61).time(C, NOW + 61)
        show(attestor.view, funded().world, heads.world)
        assert (await refusal_of(attestor, more, first)).code == "insufficient_free_margin"
        assert (await refusal_of(attestor, more)).code == "missing_items"
        show(attestor.view, funded().time(B, NOW + 60).time(A, NOW + 61).world, heads.world)
        assert (await refusal_of(attestor, more)).code == "missing_items"
        # Spent at a head only: the same.
        show(attestor.view, funded().world, heads.used(first).world)
        assert (await refusal_of(attestor, more, first)).code == "insufficient_free_margin"
        show(attestor.view, funded().time(B, NOW + 61).world, heads.world)
        await attestor.sign_permit(more, [])

    attest(tmp_path, funded().world, funded().world, ask)


def test_cm_11_what_is_live_on_any_account_of_the_owner_is_listed_and_journalled(tmp_path: Path) -> None:
    """CM-11, CM-13: an owner's accounts share one list, also where each is judged alone."""
    sub = account_id(ALICE[:20], 1)
    KEY_OF[sub] = KEY_OF[ALICE]

    async def ask(attestor: Attestor) -> None:
        first = asked(Withdraw(sub, USDC, 10**6, Address(sub[:20])))
        await attestor.sign_permit(first, [])
        refusal = await refusal_of(attestor, cash_out(5, nonce=2))
        assert (refusal.code, len(refusal.details["items"])) == ("missing_items", 1)
        await attestor.sign_permit(cash_out(5, nonce=2), [first])
        # It is on the list of another attestor that knew neither.
        assert {item.key for item in attestor.live_beside((sub,))} == {first.key, cash_out(5, nonce=2).key}
        assert [item.key for item in attestor.live((sub,))] == [first.key]

    chains = funded().cash(sub, A, 100)
    attest(tmp_path, chains.world, chains.world, ask)


@pytest.mark.parametrize("lie", [{"time": NOW + 30}, {"time": NOW - 1}, {"block_hash": b"\1" * 32}, {"number": 99}])
def test_a_batch_whose_cut_says_another_time_than_its_block_has_is_not_signed(
    tmp_path: Path, lie: dict[str, Any]
) -> None:
    """CM-04, CM-07: the age of the state that a margin answer carries is the time of the cut's oldest block."""

    async def ask(attestor: Attestor) -> None:
        world, cut = attestor.view.final_world(), attestor.view.cut()
        reports = reports_at(world, marks(), MODEL, LISTING)
        honest = build_batch(SIGNED_BY, MODEL, cut, inputs(time=NOW), reports, [], PARAMETERS.minimum_equity)
        assert attestor.view.world_at(honest.cut) == world
        lying = [replace(entry, **lie) if entry.chain_id == B else entry for entry in cut]
        lied = build_batch(SIGNED_BY, MODEL, lying, inputs(time=NOW), reports, [], PARAMETERS.minimum_equity)
        with pytest.raises(Refused) as refusal:
            await attestor.sign_batch(lied)
        assert refusal.value.code == "cut_unknown"
        await attestor.sign_batch(honest)

    attest(tmp_path, funded().world, funded().world, ask)
