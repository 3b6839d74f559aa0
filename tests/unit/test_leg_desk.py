"""The legs of batches as nodes make them: one attestor with its journal, its batches and three chains given block by
block. Every batch is built, signed after its own check, and known as a quorum's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from worlds import (
    DEPLOYMENT,
    ETH,
    LISTING,
    MAKER,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    PARAMETERS,
    STRANGER,
    WETH,
    A,
    B,
    C,
    Chains,
    dollars,
    leg,
    usd,
)

from keeper.attest.batch import BatchContent, batch_digest, reports_at, with_roots
from keeper.attest.codec import keccak
from keeper.attest.messages import QuorumBatch
from keeper.attest.signing import LocalSigner
from keeper.clearing.collateral import floors, short_accounts, short_since
from keeper.clearing.waterfall import rung_of
from keeper.margin.report import AccountReport
from keeper.node.attestor import Attestor
from keeper.node.batches import BatchBook
from keeper.node.config import NodeConfig
from keeper.node.leg_desk import LegDesk
from keeper.node.peers import Peers
from keeper.node.proposer import Proposer
from keeper.node.refusal import Refused
from keeper.node.view import ChainsView
from keeper.state.batch import LiquidationLeaf
from keeper.state.ids import FUND, token_id
from keeper.state.world import BlockRef, ChainState, MarginAccount
from keeper.store.journal import Journal

TOKEN = token_id(A, WETH)


class Node:
    """The only attestor of a deployment."""

    def __init__(self, folder: Path) -> None:
        signer = LocalSigner(keccak(b"the only attestor"))
        self.deployment = replace(DEPLOYMENT, attestors=(signer.address,), threshold=1)
        self.journal = Journal.open(folder / "journal.db")
        self.view = ChainsView(
            self.deployment, NodeConfig(deployment=folder, state_dir=folder, profile="devnet", late_after_seconds=10)
        )
        self.attestor = Attestor(
            self.deployment,
            LISTING,
            MODEL,
            PARAMETERS,
            self.view,
            self.journal,
            BatchBook(self.deployment, self.journal, MODEL),
            signer,
        )
        self.number = 100

    def close(self) -> None:
        asyncio.run(self.view.close())
        self.journal.close()

    def see(self, time: int, final: Chains, head: Chains | None = None, paused: int | None = None) -> None:
        """A new final block of every chain (but of the paused one) four seconds under a head of `time`."""
        self.number += 1
        for chain_id, follower in self.view.followers.items():
            if chain_id == paused:
                continue
            follower._remember(_at(final.world[chain_id], self.number, time - 4))
            follower._head = _at((head or final).world[chain_id], self.number + 4, time)
            prices = {"ETH": 3_000, "BTC": 60_000, "USDC": 1}
            follower.feeds = {name: (price * 10**8, 8, time - 5, True) for name, price in prices.items()}

    def build(self) -> BatchContent:
        return Proposer(self.attestor, self.view, self.attestor.batches, Peers({})).build()

    def sign(self, content: BatchContent) -> None:
        """Check, sign and keep a batch. Raises Refused."""
        signature = asyncio.run(self.attestor.sign_batch(content))
        assert self.attestor.batches.add(QuorumBatch(content, signature))

    def batch(
        self, time: int, final: Chains, head: Chains | None = None, paused: int | None = None
    ) -> tuple[LiquidationLeaf, ...]:
        """The legs of the batch that this node builds of what it sees."""
        self.see(time, final, head, paused)
        content = self.build()
        self.sign(content)
        return content.legs

    def refusal(self, time: int, final: Chains, *legs: LiquidationLeaf, head: Chains | None = None) -> Refused:
        """Why it does not sign these legs."""
        self.see(time, final, head)
        content = replace(self.build(), legs=legs)
        content = replace(content, batch=with_roots(content))
        assert batch_digest(self.deployment, content.batch)
        with pytest.raises(Refused) as caught:
            self.sign(content)
        return caught.value


def _at(state: ChainState, number: int, time: int) -> ChainState:
    here, before = (n.to_bytes(32, "big") for n in (number, number - 1))
    return replace(state, block=BlockRef(number, here, before, time))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.close()


def below() -> Chains:
    """5 ETH long on B and 4 on C, cash on A; equity 1,000 of 3,780 maintenance margin."""
    return Chains().linked(OWNER, (A, B, C)).size(OWNER, B, 5).size(OWNER, C, 4).cash(OWNER, A, 1_000 - 27_000)


def test_legs_on_several_chains_are_planned_signed_and_kept_as_live(node: Node) -> None:
    legs = node.batch(NOW, below())
    assert {leaf.chain_id for leaf in legs} == {B, C}
    assert {leaf.auction_start for leaf in legs} == {NOW}
    assert len(node.attestor.live((OWNER,))) == 2
    # Two seconds later the same positions again, by the same clock, beside those that are live.
    again = node.batch(NOW + 2, below())
    assert {leaf.chain_id for leaf in again} == {B, C}
    assert {leaf.auction_start for leaf in again} == {NOW}


def test_a_leg_that_would_be_too_many_is_refused(node: Node) -> None:
    (first, *_) = node.batch(NOW, below())
    more = replace(first, close_limit=first.close_limit + usd(10))
    refusal = node.refusal(NOW + 2, below(), more)
    assert (refusal.code, "the position is" in refusal.message) == ("leg_unsafe", True)
    assert node.refusal(NOW + 4, below(), replace(first, auction_start=NOW - 9)).code == "leg_clock"


def test_sequence_11_a_top_up_voids_the_legs_of_its_chain_and_is_not_raced_by_them(node: Node) -> None:
    """CM-41: the owner brings exactly what was missing; the leg of the batch before would still have been filled.

    Fails where a leg has no deposit target: it would count, and be executed, for another minute.
    """
    chains = Chains().size(OWNER, A, 5).cash(OWNER, A, 2_000 - 15_000)
    (leaf,) = node.batch(NOW, chains)
    assert leaf.deposit_target == 670 * 10**6
    topped = Chains(dict(chains.world)).cash(OWNER, A, 2_670 - 15_000)
    state = topped.world[A]
    part = {**topped.world, A: replace(state, deposited=state.deposited.set(OWNER, 670 * 10**6 - 1))}
    whole = {**topped.world, A: replace(state, deposited=state.deposited.set(OWNER, 670 * 10**6))}
    assert topped.report().free == 0
    node.see(NOW + 2, Chains(part))
    assert len(node.attestor.live((OWNER,))) == 1
    node.see(NOW + 2, Chains(whole))
    assert node.attestor.live((OWNER,)) == []
    assert node.batch(NOW + 4, Chains(whole)) == ()


def test_sequence_16_who_is_healthy_at_the_final_blocks_is_not_sold_for_what_the_head_says(node: Node) -> None:
    """CM-10: money on its way: A's head has the debit, B's credit is in no block yet; final, nothing has moved.

    Fails where the head alone, or the worse of both, decides: 400 of 2,100 at the head.
    """
    final = Chains().linked(OWNER, (A, B)).size(OWNER, A, 5).cash(OWNER, A, 3_000 - 15_000)
    head = Chains(dict(final.world)).cash(OWNER, A, 400 - 15_000)
    assert head.report().status == "liquidatable"
    assert node.batch(NOW, final, head) == ()
    leaf = node.batch(NOW + 2, head)[0]
    assert node.refusal(NOW + 4, final, leaf, head=head).code == "leg_not_due"
    # And the other way round: who has topped up at the head is left alone.
    assert node.batch(NOW + 6, head, final) == ()


def test_sequence_26_nobody_is_sold_because_a_sequencer_paused(node: Node) -> None:
    """CM-14: all that keeps OWNER healthy is collateral on C, which stops making blocks.

    Fails where a chain that is silent counts nothing: everybody with collateral there is sold elsewhere.
    """
    chains = Chains().linked(OWNER, (A, C)).size(OWNER, A, 5).cash(OWNER, A, -15_000).weth(OWNER, C, 2)
    without = {chain_id: state for chain_id, state in chains.world.items() if chain_id != C}
    assert Chains(without).report().status == "liquidatable"
    assert node.batch(NOW, chains) == ()
    for seconds in (4, 10, 14, 60, 600):
        assert node.batch(NOW + seconds, chains, paused=C) == ()
    # Not even who was below before is: while a chain is late no leg is signed.
    sick = Chains(dict(chains.world)).cash(OWNER, A, -15_000 - 5_000)
    assert node.batch(NOW + 610, sick, paused=C) == ()
    leaf = node.batch(NOW + 620, sick)[0]
    node.see(NOW + 640, sick, paused=C)
    content = replace(node.build(), legs=(leaf,))
    with pytest.raises(Refused, match="no leg is signed"):
        node.sign(replace(content, batch=with_roots(content)))


# --- the waterfall over time ----------------------------------------------------------------------------------------


def ruined(fund: float) -> Chains:
    chains = Chains().size(OWNER, B, 5).cash(OWNER, B, -500 - 15_000).size(OTHER, B, -5).cash(OTHER, B, 25_000)
    return chains.cash(FUND, B, fund) if fund else chains


@pytest.mark.parametrize(("fund", "last"), [(10_000, "fund"), (100, "deleverage")])
def test_cm_43_the_clock_of_the_rungs_runs_through_the_batches(node: Node, fund: float, last: str) -> None:
    """CM-43: counted from the first leg, whoever proposes."""
    seen = [rung_of(node.batch(NOW + seconds, ruined(fund))[0]) for seconds in (0, 10, 38, 40)]
    assert seen == ["auction", "auction", "auction", last]


def test_cm_43_an_account_that_could_never_be_offered_waits_by_its_own_clock(node: Node) -> None:
    """CM-43: equity 0.5 does not pay the fee of any leg; the fund takes it 40 s after it was first seen below."""
    chains = Chains().size(OWNER, B, 5).cash(OWNER, B, 0.5 - 15_000).cash(FUND, B, 10_000)
    assert [len(node.batch(NOW + seconds, chains)) for seconds in (0, 20, 39)] == [0, 0, 0]
    (leaf,) = node.batch(NOW + 40, chains)
    assert rung_of(leaf) == "fund"


def test_cm_43_the_fund_pays_for_who_has_nothing_left_or_only_hedges(node: Node) -> None:
    """CM-43: OTHER owes 50 and has nothing. Of OWNER's pair neither side may go, nor will it."""
    chains = Chains().linked(OWNER, (A, B)).size(OWNER, A, 5).size(OWNER, B, -5).cash(OWNER, A, -100)
    chains.cash(OTHER, C, -50).cash(FUND, C, 1_000)

    def owed(time: int) -> tuple[int, dict[MarginAccount, int]]:
        node.see(time, chains)
        world = node.view.world_at(node.view.cut())
        assert world is not None
        reports = reports_at(world, node.attestor.observer.marks(), MODEL, LISTING)
        desk = LegDesk(node.attestor, world, node.attestor.observer.marks(), reports, time)
        return len(desk.plan()), desk.deficits()

    assert owed(NOW) == (0, {chains.account(OTHER, C): usd(50), chains.account(OWNER): usd(100)})
    # Not quite hedged: of 5.1 long 0.1 may be sold, and is; its deficit is nobody else's yet.
    chains.size(OWNER, A, 5.1).cash(OWNER, A, -400)
    assert owed(NOW + 2) == (1, {chains.account(OTHER, C): usd(50)})


def test_cm_43_the_fund_offers_what_it_holds_in_every_batch(node: Node) -> None:
    """CM-43: an auction per asset, from the first batch that lists it until there is nothing."""
    chains = Chains().size(FUND, B, 3).cash(FUND, B, 1_000)
    for seconds in (0, 2, 30):
        (leaf,) = node.batch(NOW + seconds, chains)
        assert (leaf.account_id, leaf.auction_start, dollars(leaf.close_limit)) == (FUND, NOW, 3)
    assert node.refusal(NOW + 32, chains, replace(leaf, auction_start=NOW - 60)).code == "leg_clock"
    assert node.refusal(NOW + 34, chains, replace(leaf, max_concession=usd(50))).code == "leg_unsafe"
    assert node.batch(NOW + 36, Chains()) == ()
    assert node.batch(NOW + 38, chains)[0].auction_start == NOW + 38


# --- collateral for cash (CM-21) ------------------------------------------------------------------------------------


def borrower(owes: float) -> Chains:
    """Owes settlement token against 10 WETH: far above any margin."""
    return Chains().cash(OWNER, A, -owes).weth(OWNER, A, 10)


def test_cm_21_collateral_is_sold_once_net_cash_was_below_the_floor_for_the_term(node: Node) -> None:
    """CM-21: 500 owed, a floor of 100, 60 s: as much WETH as brings net cash to zero at the worst price."""
    chains = borrower(500)
    assert chains.report().status == "healthy"
    for seconds in (0, 20, 40, 58):
        assert node.batch(NOW + seconds, chains) == ()
    (leaf,) = node.batch(NOW + 60, chains)
    assert (leaf.asset, leaf.chain_id, leaf.auction_start) == (TOKEN, A, NOW + 60)
    # At most a tenth of its standalone maintenance margin is conceded, 36 of 3,000; and the flat fee of 1.
    concession = dollars(leaf.max_concession)
    assert concession == pytest.approx(36, abs=0.5)
    assert dollars(leaf.close_limit) == pytest.approx(501 / (3_000 - concession), abs=1e-5)
    assert leaf.deposit_target == 500 * 10**6
    # The auction of the next batch goes on; more than is owed is refused.
    (again,) = node.batch(NOW + 62, chains)
    assert again.auction_start == NOW + 60
    refusal = node.refusal(NOW + 64, chains, replace(again, close_limit=usd(0.2)))
    assert "restores the account already" in refusal.message


def test_cm_21_a_break_starts_the_term_again(node: Node) -> None:
    for seconds, owes in ((0, 500), (40, 500), (50, 90), (52, 500), (100, 500), (110, 500)):
        assert node.batch(NOW + seconds, borrower(owes)) == ()
    (leaf,) = node.batch(NOW + 112, borrower(500))
    # At the head it has been paid: nothing is signed.
    assert node.batch(NOW + 114, borrower(500), borrower(0)) == ()
    assert node.refusal(NOW + 116, borrower(0), leaf).code == "leg_not_due"


def test_cm_21_the_floor_is_zero_where_a_chain_owes_too_much_together() -> None:
    """CM-21: each owes less than the floor of 100, together more than the limit of 10,000."""

    def report(n: int, owes: float, chains: tuple[int, ...]) -> AccountReport:
        account = MarginAccount(type(OWNER)(n.to_bytes(20, "big") + bytes(12)), chains)
        return AccountReport(account, usd(10_000), 0, 0, 0, -usd(owes), 0)

    crowd = [report(1 + n, 99, (A,)) for n in range(101)]
    few, apart = report(900, 101, (B,)), report(901, 99, (B, C))
    assert short_accounts([*crowd, few, apart], PARAMETERS) == {few.account: usd(100)}
    crowd.append(report(500, 2, (A, B)))
    found = short_accounts([*crowd, few, apart], PARAMETERS)
    assert found[few.account] == usd(100)
    assert len(found) == 103
    assert floors([apart], PARAMETERS) == {apart.account: usd(100)}
    assert short_since([(9, -usd(101)), (7, -usd(200)), (5, -usd(100)), (3, -usd(300))], usd(100)) == 7
    assert short_since([(9, -usd(100))], usd(100)) is None


def test_cm_21_a_sale_for_cash_never_takes_an_account_below_maintenance_margin(node: Node) -> None:
    """CM-41 with q = 1: WETH that hedges a short is sold only as far as equity stays above maintenance margin."""
    # 10 WETH against 10 short at 3,000: equity 1,500 and 600 required; sold off, 10 short alone need 4,200.
    chains = Chains().weth(OWNER, A, 10).size(OWNER, A, -10).cash(OWNER, A, 2_400)
    assert chains.report().net_cash == -usd(27_600)
    assert (dollars(chains.report().equity), dollars(chains.report().maintenance_margin)) == (1_500, 600)
    for seconds in (0, 30):
        node.batch(NOW + seconds, chains)
    legs = node.batch(NOW + 60, chains)
    (leaf,) = legs
    sold = dollars(leaf.close_limit)
    assert 1 < sold < 9
    cash = sold * (3_000 - dollars(leaf.max_concession)) - 1
    after = Chains().weth(OWNER, A, 10 - sold).size(OWNER, A, -10).cash(OWNER, A, 2_400 + cash).report()
    assert after.equity >= after.maintenance_margin


def test_a_leg_of_somebody_else_is_nothing_to_an_account(node: Node) -> None:
    chains = below().size(STRANGER, B, 1).cash(STRANGER, B, 10_000).cash(MAKER, B, 5)
    node.batch(NOW, chains)
    assert node.attestor.live((STRANGER,)) == []
    refusal = node.refusal(NOW + 2, chains, leg(1, STRANGER, B, asset=ETH).leaf)
    assert refusal.code == "leg_not_due"
