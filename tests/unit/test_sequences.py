"""Attacks told as stories, as far as the judgement of permits and the keeping of batches decide them.

Each broke an earlier design: somebody ended with less than is required, or with other people's money. What an attacker
would have won is in the comments.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from worlds import (
    BTC,
    DEPLOYMENT,
    LISTING,
    MAKER,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    PARAMETERS,
    USDC,
    WETH,
    A,
    B,
    C,
    Chains,
    dollars,
    executed,
    granted,
    inputs,
    leg,
    leg_filled,
    marks,
    refused,
    report_of,
    reserve,
    takeover,
    trade,
    units,
    usd,
    usdc,
    withdraw,
)

from keeper.attest.batch import batch_digest, build_batch, margin_leaves, reports_at
from keeper.attest.codec import keccak
from keeper.attest.messages import QuorumBatch
from keeper.attest.requests import RequestError, check_item, permit_for, request_digest
from keeper.attest.signing import LocalSigner
from keeper.margin.listing import Listing
from keeper.margin.portfolio import portfolio
from keeper.node.batches import BatchBook
from keeper.state.actions import Withdraw
from keeper.state.batch import ChainCut, LiquidationLeaf
from keeper.state.deployment import Token
from keeper.state.ids import Address, token_id
from keeper.state.live import LiveItem, PermitItem
from keeper.state.world import component_of
from keeper.store.journal import Journal


def test_sequence_08_a_hedge_that_is_signed_but_never_executed_backs_nothing() -> None:
    """CM-11: get the sale that would flatten you permitted, take out the margin it would free, let the sale expire."""
    chains = Chains().size(OWNER, A, 1).cash(OWNER, A, 600 - 3000).cash(OWNER, B, 0.01).linked(OWNER, (A, B))
    chains.cash(MAKER, B, 100_000)
    hedge = trade(-1, chain_id=B, deadline=NOW + 60)
    granted(hedge, [], chains.context())
    # Free are 66.01; with the hedge 599.41 would be.
    loot = withdraw(171)
    assert dollars(report_of(executed(chains.world, loot), OWNER).free) == pytest.approx(66.01 - 171)  # −105
    refusal = refused(loot, [hedge], chains.context(), "insufficient_free_margin")
    assert dollars(refusal.free or 0) == pytest.approx(66.01)
    refused(loot, [], chains.context(), "insufficient_free_margin")
    # Executed at a final block it does back the withdrawal; expired at one it does not.
    done = Chains(executed(chains.world, hedge))
    granted(loot, [hedge], done.context())
    refused(loot, [hedge], chains.time(B, NOW + 61).context(), "insufficient_free_margin")


@pytest.mark.parametrize("where", [(A, A), (A, B), (B, C)])
def test_sequence_09_two_close_outs_that_each_fit_do_not_flip_the_position_together(where: tuple[int, int]) -> None:
    """CM-11: below initial margin only what reduces risk is permitted; ask twice to sell the same 5, then execute both.

    5 long at equity 2,300 need 2,670; after both sales 5 short are held at 2,294.
    """
    chains = Chains().size(OWNER, A, 5).cash(OWNER, A, 2300 - 15_000).linked(OWNER, (A, B, C)).cash(MAKER, A, 10**6)
    chains.linked(MAKER, (A, B, C))
    first, second = (trade(-5, chain_id=chain_id, deadline=NOW + 60) for chain_id in where)
    for alone in (first, second):
        granted(alone, [], chains.context())
    both = executed(executed(chains.world, first), second)
    assert dollars(report_of(both, OWNER).free) == pytest.approx(2300 - 6 - 2670)
    refused(second, [first], chains.context(), "insufficient_free_margin")
    # Two halves of it fit together, and the whole beside them does not.
    halves = [trade(-2.5, chain_id=where[0]), trade(-2.5, chain_id=where[1])]
    granted(halves[1], halves[:1], chains.context())
    refused(second, halves, chains.context(), "insufficient_free_margin")
    # Once the first is dead at a final block of its chain, the second may be asked for again.
    late = replace(second, permit=replace(second.permit, deadline=NOW + 200))
    granted(late, [first], chains.time(where[0], NOW + 61).context())


def test_sequence_10_three_permits_of_which_each_attestor_has_seen_two() -> None:
    """CM-11, CM-13: with three attestors and two signatures, ask {1,2}, {1,3} and {2,3} for 47 of the same 100 each."""
    context = Chains().cash(OWNER, A, 100).linked(OWNER, (A, B, C)).context()
    permits = [withdraw(47, chain_id) for chain_id in (A, A, A)]
    for one, other in combinations(permits, 2):
        granted(other, [one], context)  # what either signer of the third knows by itself: 94 of 100
    journals: dict[int, list[LiveItem]] = {1: [], 2: [], 3: []}
    for item, quorum in zip(permits[:2], ((1, 2), (1, 3)), strict=True):
        listed = [known for member in quorum for known in journals[member]]
        granted(item, listed, context)
        for member in quorum:
            journals[member] = [*dict.fromkeys((*listed, item))]
    # The second came to 3 with the first in its list, so 2 and 3 together know both: 141 of 100 is refused by both.
    assert journals[3] == permits[:2]
    union = [*dict.fromkeys((*journals[2], *journals[3]))]
    refusal = refused(permits[2], union, context, "insufficient_free_margin")
    assert (refusal.free, refusal.asked) == (usd(6), usd(47))
    assert len(refusal.live) == 2


def test_sequence_11_a_leg_that_outlives_a_top_up_still_counts() -> None:
    """CM-11: while a leg of yours is listed, top up, take out all that is free, and let the leg fill at its worst.

    5 long with 42 of concession on each: a fill costs 210 and the fee of 1.
    """
    chains = Chains().size(OWNER, B, 5).cash(OWNER, B, 100 - 15_000).cash(OWNER, A, 3000).linked(OWNER, (A, B))
    chains.cash(MAKER, A, 10**6).linked(MAKER, (A, B))
    old = leg(5, chain_id=B, concession=42)
    sold_out = leg_filled(chains.world, old, units(5), usd(42))
    assert dollars(report_of(sold_out, OWNER).equity) == 3100 - 211
    for loot in (withdraw(370), withdraw(1), reserve(1), trade(0.01, chain_id=A)):
        refused(loot, [old], chains.context(), "leg_live")
    # A hedge on another chain is no way around: sold 5 there, and 5 by the leg, it would be 5 short.
    refused(trade(-5.01, chain_id=A), [old], chains.context(), "leg_live")
    refused(trade(-5, chain_id=A), [old], chains.context(), "leg_live")
    # Neither the owner's word nor time on another chain ends it; a final block of B past the batch's minute does.
    refused(withdraw(370), [old], chains.time(A, NOW + 3600).time(C, NOW + 3600).context(), "leg_live")
    refused(withdraw(370), [old], chains.time(B, NOW + 60).context(), "leg_live")
    granted(withdraw(370), [old], chains.time(B, NOW + 61).context())


def test_sequence_19_collateral_of_ones_own_does_not_buy_out_the_depositors() -> None:
    """CM-21: 100 WETH, no cash, 10,000 USDC of others in the vaults: a free loan, were free margin all that counts."""
    chains = Chains().weth(OWNER, A, 100).linked(OWNER, (A, B, C)).cash(OTHER, A, 10_000).cash(MAKER, B, 10**6)
    chains.linked(MAKER, (A, B, C))
    context = chains.context()
    assert report_of(chains.world, OWNER).free == usd(246_000)
    for chain_id in (A, B, C):
        for amount in (10_000, 1, 0.000001):
            refused(withdraw(amount, chain_id), [], context, "net_cash")
    refused(reserve(100, cash_part=0.01), [], context, "net_cash")
    # Winning by a trade that may never happen does not help, nor does winning by a lost mark that comes back.
    refused(withdraw(1), [trade(-1, price=3100)], context, "net_cash")
    # By trading, what somebody else lost is his to take, and no more.
    won = Chains(executed(chains.world, trade(-1, price=3100)))  # 100 − 0.62
    granted(withdraw(99.38), [], won.context())
    refused(withdraw(99.39), [], won.context(), "net_cash")
    refused(withdraw(99.38), [], won.context(marks(), marks(3001)), "net_cash")


def test_sequence_25_waiting_for_the_cap_is_no_way_to_get_more_and_no_batch_resets_the_clock(tmp_path: Path) -> None:
    """CM-41: let your other account wait until all of the concession is ripe; or have the clock start over for ever.

    The auction begins with the first leg and runs on while the account stays below initial margin, also through
    batches in which no leg is listed; and takers are judged without any concession, so being early costs no margin.
    """
    attestor = LocalSigner(keccak(b"the only attestor"))
    deployment = replace(DEPLOYMENT, attestors=(attestor.address,), threshold=1)
    journal = Journal.open(tmp_path / "journal.db")
    book = BatchBook(deployment, journal, MODEL)
    sick = Chains().size(OWNER, B, 5).cash(OWNER, B, 2000 - 15_000)
    better = Chains().size(OWNER, B, 5).cash(OWNER, B, 2500 - 15_000)  # above maintenance, below initial margin
    healthy = Chains().size(OWNER, B, 5).cash(OWNER, B, 3000 - 15_000)
    account = sick.account(OWNER, B)

    def batch(chains: Chains, time: int, *legs: LiquidationLeaf) -> None:
        cut = [ChainCut(chain_id, 100, bytes(32), time - 4, 104, time) for chain_id in (A, B, C)]
        reports = reports_at(chains.world, marks(), MODEL, LISTING)
        content = build_batch(deployment, MODEL, cut, inputs(time=time), reports, legs, PARAMETERS.minimum_equity)
        signature = attestor.sign(batch_digest(deployment, content.batch))
        assert book.add(QuorumBatch(content, signature))

    def listed(time: int) -> LiquidationLeaf:
        return replace(leg(1, chain_id=B, concession=42).leaf, auction_start=book.auction_start(account, time))

    assert book.auction_start(account, NOW) == NOW
    for seconds in (0, 2, 4):
        batch(sick, NOW + seconds, listed(NOW + seconds))
    assert book.auction_start(account, NOW + 6) == NOW
    batch(better, NOW + 6)
    batch(sick, NOW + 8, listed(NOW + 8))
    assert book.auction_start(account, NOW + 1000) == NOW
    batch(healthy, NOW + 10)
    assert book.auction_start(account, NOW + 12) == NOW + 12
    journal.close()
    taker = Chains().cash(MAKER, B, 1000).size(OTHER, B, 5).context()
    for concession in (0, 42):
        offered = leg(5, OTHER, B, concession=concession)
        asked = takeover(1.5, OTHER, B, MAKER)
        assert dollars(granted(asked, [offered], taker).free_after) == pytest.approx(1000 - 1.5 * 534)


def test_sequence_27_an_address_that_is_somebody_elses_on_another_chain_borrows_nothing() -> None:
    """CM-09: a wallet's address is free on B; whoever takes it there has "the same" account, and links it to A."""
    chains = Chains().cash(OWNER, A, 50_000).weth(OWNER, A, 10).cash(OWNER, B, 5).linked(OWNER, (A, C))
    chains.link(OWNER, B, [A, C]).cash(MAKER, B, 10**6)
    for loot in (withdraw(6, B), reserve(6, B), trade(0.1, chain_id=B), trade(-1, chain_id=B, asset=BTC, price=60_000)):
        refusal = refused(loot, [], chains.context(), "insufficient_free_margin")
        assert refusal.equity == usd(5)
    granted(withdraw(5, B), [], chains.context())
    # And what is asked for on B takes nothing of the owner's on A: neither margin nor a place among what is live.
    crowd = [withdraw(5, B) for _ in range(20)]
    assert granted(withdraw(50_000, A), crowd, chains.context()).free_after == 10 * (usd(2910) - usd(450))
    leaves = margin_leaves(reports_at(chains.world, marks(), MODEL, LISTING), 0)
    assert {leaf.chain_id: dollars(leaf.equity) for leaf in leaves if leaf.account_id == OWNER} == {
        A: 79_100.0,
        C: 79_100.0,
        B: 5.0,
    }
    assert granted(withdraw(6, B), [], chains.link(OWNER, A, [B, C]).context())


def test_sequence_14_requests_that_the_owner_never_signed_take_no_place(tmp_path: Path) -> None:
    """CM-11, CM-13: fill the twelve places on a stranger's account with requests that only you signed.

    They are refused before they are judged, journalled or adopted, so the owner's own request is the first on the list.
    """
    attestor = LocalSigner(keccak(b"the only attestor"))
    deployment = replace(DEPLOYMENT, attestors=(attestor.address,), threshold=1)
    thief = LocalSigner(keccak(b"a thief"))
    forged = []
    for nonce in range(13):
        action = Withdraw(OWNER, USDC, usdc(10), Address(thief.address))
        item = PermitItem(A, permit_for(deployment, action, nonce, NOW + 60), action, ())
        forged.append(replace(item, signatures=(thief.sign(request_digest(deployment, item)),)))
    for item in forged:
        with pytest.raises(RequestError, match="signed by 0x"):
            check_item(item, deployment)
    chains = Chains().cash(OWNER, A, 100)
    # Were they counted, thirteen withdrawals of 10 would leave no place for another act.
    refused(withdraw(95), forged, chains.context(), "too_many_live")
    granted(withdraw(95), [], chains.context())


def test_sequence_28_one_token_address_on_two_chains_is_two_tokens() -> None:
    """The same address is WETH on A and a token worth nothing on B: deposited there it must not count as WETH."""
    assert token_id(A, WETH) != token_id(B, WETH)
    chains = {
        **DEPLOYMENT.chains,
        B: replace(DEPLOYMENT.chains[B], collateral=(Token("SHAM", WETH, 18, "BTC"),)),
        C: replace(DEPLOYMENT.chains[C], collateral=()),
    }
    listing = Listing.of(replace(DEPLOYMENT, chains=chains))
    world = Chains().weth(OWNER, A, 1).weth(OWNER, B, 1).weth(OWNER, C, 1).linked(OWNER, (A, B, C)).world
    held = portfolio(world, listing, component_of(world, OWNER, A)).collateral
    # Each by its own chain's listing, and on C, where it is not listed, as nothing.
    assert held == {token_id(A, WETH): units(1), token_id(B, WETH): units(1)}
    assert [listing.underlying_of(asset) for asset in held] == ["ETH", "BTC"]
