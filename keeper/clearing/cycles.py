"""Settlement cycles as attestors run them: what is pending in every figure, when a cycle is planned, what is checked.

What is offset is an account's value on each chain, cash and mark to market: there are no entry prices, so cash alone
is far below zero wherever somebody is long, and shipping by it would move money that the next fill moves back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from keeper.margin.listing import Listing
from keeper.margin.model import MarginModel
from keeper.margin.portfolio import portfolio
from keeper.margin.report import AccountReport
from keeper.margin.valuation import EXACT, Valuation
from keeper.market.marks import Marks
from keeper.state.batch import SettlementLeaf
from keeper.state.deployment import Profile
from keeper.state.ids import FUND, AccountId
from keeper.state.world import MarginAccount, World

from .settlement import Cycle, Ledger, Terms, Vault, cover, is_applied, is_shipment, ledgers, plan, unapplied, vaults
from .settlement_checks import broken


def terms_of(profile: Profile) -> Terms:
    return Terms(least_transfer=profile.least_transfer, least_offset=profile.least_offset)


def with_pending(world: World, signed: Iterable[SettlementLeaf], listing: Listing) -> World:
    """The world as if every signed leaf that its blocks have not applied were applied.

    Equity counts cash and signed but unapplied deltas, flag and cash read at one block (CM-50): so applying a leaf
    changes no figure. Tokens of a signed shipment count as gone.
    """
    found = dict(world)
    for leaf in signed:
        state = found.get(leaf.chain_id)
        if state is None or is_applied(leaf, state):
            continue
        applied = state.applied.set((leaf.account_id, leaf.cycle), leaf.cash_delta)
        if is_shipment(leaf):
            scale = listing.settlement[leaf.chain_id].scale
            held = state.held + leaf.cash_delta // scale
            found[leaf.chain_id] = replace(state, held=held, claims=state.claims - leaf.cash_delta, applied=applied)
            continue
        cash = state.cash.get(leaf.account_id, 0) + leaf.cash_delta
        found[leaf.chain_id] = replace(
            state,
            cash=state.cash.set(leaf.account_id, cash),
            claims=state.claims + leaf.cash_delta,
            applied=applied,
        )
    return found


@dataclass(frozen=True)
class Books:
    """What cycles are planned from and checked against: ledgers of values, vaults, and what each account lacks."""

    ledgers: Sequence[Ledger]
    vaults: Mapping[int, Vault]

    @classmethod
    def at(
        cls,
        world: World,
        signed: Sequence[SettlementLeaf],
        marks: Marks,
        model: MarginModel,
        listing: Listing,
        reports: Sequence[AccountReport],
    ) -> Books:
        """Of holdings at a cut; `signed` are all entries whose application may not be final, `reports` are of the
        holdings with what is pending."""
        found = ledgers(world, signed, deficits_of(world, reports, listing))
        held = {
            (ledger.account, chain_id): portfolio(world, listing, MarginAccount(ledger.account.account_id, (chain_id,)))
            for ledger in found
            for chain_id in ledger.account.chains
            if ledger.account.account_id != FUND
        }
        valuation = Valuation.of(marks, model, {asset for book in held.values() for asset in book.positions})
        valued = [
            ledger
            if ledger.account.account_id == FUND
            else replace(
                ledger,
                cash={c: valuation.net_cash(held[(ledger.account, c)]) // EXACT for c in ledger.account.chains},
            )
            for ledger in found
        ]
        return cls(valued, vaults(world, listing, signed))

    def next_cycle(self, number: int, terms: Terms) -> Cycle | None:
        """The fund pays what accounts with nothing left lack; else values are offset. None where neither is due."""
        fund = {
            chain_id: cash
            for ledger in self.ledgers
            if ledger.account.account_id == FUND and ledger.may_enter
            for chain_id, cash in ledger.cash.items()
        }
        owners = [ledger for ledger in self.ledgers if ledger.account.account_id != FUND]
        return cover(owners, fund, number, terms) or plan(owners, self.vaults, number, terms)


def deficits_of(world: World, reports: Iterable[AccountReport], listing: Listing) -> dict[MarginAccount, int]:
    """What accounts owe that have nothing left to sell: no position, no collateral, equity below zero."""
    return {
        report.account: -report.equity
        for report in reports
        if report.equity < 0 and not portfolio(world, listing, report.account).assets
    }


def settlement_faults(
    proposed: Sequence[SettlementLeaf],
    known: Sequence[SettlementLeaf],
    world: World,
    books: Books,
    terms: Terms,
    newest: int,
) -> list[str]:
    """What is wrong with the entries of a proposed batch that this attestor does not know yet; empty where nothing.

    Cycles before number `newest` were signed by others and are carried. Each unknown cycle is judged by itself, in
    ascending order of numbers, and an account enters one of them only.
    """
    places = {(leaf.cycle, leaf.account_id, leaf.chain_id): leaf for leaf in known}
    fresh = [leaf for leaf in proposed if places.get((leaf.cycle, leaf.account_id, leaf.chain_id)) != leaf]
    faults = [
        f"cycle {leaf.cycle}: another entry of this account is known, or applied"
        for leaf in fresh
        if (leaf.cycle, leaf.account_id, leaf.chain_id) in places or leaf not in unapplied([leaf], world)
    ]
    entered: set[AccountId] = set()
    for number in sorted({leaf.cycle for leaf in fresh}):
        group = [leaf for leaf in fresh if leaf.cycle == number]
        ready = [
            replace(ledger, may_enter=ledger.may_enter and ledger.account.account_id not in entered)
            for ledger in books.ledgers
        ]
        faults += broken(group, ready, books.vaults, terms, number - 1, carried=number < newest)
        entered |= {leaf.account_id for leaf in group}
    return faults


def missing_entries(
    proposed: Sequence[SettlementLeaf], known: Sequence[SettlementLeaf], world: World
) -> list[SettlementLeaf]:
    """Signed entries that the blocks of the cut have not applied and the proposal does not carry."""
    carried = set(proposed)
    return [leaf for leaf in unapplied(known, world) if leaf not in carried]
