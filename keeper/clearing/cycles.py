"""Settlement cycles as attestors run them: what is pending in every figure, when a cycle is planned, what is checked.

What is offset is an account's value on each chain, cash and mark to market: there are no entry prices, so cash alone
is far below zero wherever somebody is long, and shipping by it would move money that the next fill moves back.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from eth_hash.backends.pysha3 import keccak256

from keeper.margin.listing import Listing
from keeper.margin.model import MarginModel
from keeper.margin.portfolio import portfolio
from keeper.margin.valuation import EXACT, Valuation
from keeper.market.marks import Marks
from keeper.state.batch import SettlementLeaf
from keeper.state.deployment import Profile
from keeper.state.ids import FUND, AccountId
from keeper.state.world import MarginAccount, World

from .settlement import (
    Cycle,
    Ledger,
    Terms,
    Vault,
    cover,
    enter,
    is_applied,
    is_shipment,
    ledgers,
    plan,
    unapplied,
    vaults,
)
from .settlement_checks import broken

_COVERS = 2**52
"""Numbers from here on are those of the fund's payments."""
_COVER_EPOCHS = 64


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
        deficits: Mapping[MarginAccount, int],
        parting: Container[AccountId] = (),
    ) -> Books:
        """Of holdings at a cut; `signed` are all entries whose application may not be final, `deficits` what the fund
        is to pay with all that is pending (`waterfall.deficits`), `parting` the accounts of which an unlink is live."""
        pending = with_pending(world, signed, listing)
        found = ledgers(world, signed, deficits, parting)
        held = {
            (ledger.account, chain_id): portfolio(world, listing, MarginAccount(ledger.account.account_id, (chain_id,)))
            for ledger in found
            for chain_id in ledger.account.chains
            if ledger.account.account_id != FUND
        }
        valuation = Valuation.of(marks, model, {asset for book in held.values() for asset in book.positions})
        valued = [
            # The fund pays many accounts at once: what it may spend is what it has beside all that it promised.
            replace(ledger, may_enter=True, cash={c: pending[c].cash.get(FUND, 0) for c in ledger.account.chains})
            if ledger.account.account_id == FUND
            else replace(
                ledger,
                cash={c: valuation.net_cash(held[(ledger.account, c)]) // EXACT for c in ledger.account.chains},
            )
            for ledger in found
        ]
        return cls(valued, vaults(world, listing, signed))

    def next_cycles(self, epoch: int, terms: Terms) -> list[Cycle]:
        """The fund pays what accounts with nothing left lack, a cycle each; values of the others are offset in one."""
        fund = {c: cash for each in self.ledgers if each.account.account_id == FUND for c, cash in each.cash.items()}
        owners = [ledger for ledger in self.ledgers if ledger.account.account_id != FUND]
        cycles: list[Cycle] = []
        for ledger in sorted(owners, key=lambda each: (each.deficit, each.account.account_id)):
            paid = cover([ledger], fund, cover_number(ledger.account.account_id, epoch), terms)
            if paid is not None:
                if any(each.number == paid.number for each in cycles):
                    continue  # two ids with one number: the other waits
                cycles.append(paid)
                for leaf in paid.entries:
                    if leaf.account_id == FUND:
                        fund[leaf.chain_id] += leaf.cash_delta
        covered = {leaf.account_id for cycle in cycles for leaf in cycle.entries}
        offset = plan([o for o in owners if o.account.account_id not in covered], self.vaults, epoch, terms)
        return cycles if offset is None else [*cycles, offset]


def cover_number(account: AccountId, epoch: int) -> int:
    """The number of the cycle by which the fund pays an account: the same for two minutes whoever proposes it.

    Two proposers that each found a minority for the same payment have found one for the same leaf, and no chain takes
    it twice. Cycles of offsets have their epoch as number, far below.
    """
    return _COVERS | (epoch // _COVER_EPOCHS % 2**16) << 32 | int.from_bytes(keccak256(account)[:4], "big")


def newest_offsets(entries: Iterable[SettlementLeaf]) -> int:
    """The epoch of the newest cycle of offsets among these entries, 0 where there is none."""
    return max((leaf.cycle for leaf in entries if leaf.cycle < _COVERS), default=0)


def settlement_faults(
    proposed: Sequence[SettlementLeaf],
    known: Sequence[SettlementLeaf],
    world: World,
    books: Books,
    terms: Terms,
    newest: int,
) -> list[str]:
    """What is wrong with the entries of a proposed batch that this attestor does not know yet; empty where nothing.

    Cycles before number `newest`, the epoch of the batch, were signed by others and are carried. Each unknown cycle is
    judged by itself, in ascending order of numbers, and an account enters one of them only.
    """
    places = {(leaf.cycle, leaf.account_id, leaf.chain_id): leaf for leaf in known}
    fresh = [leaf for leaf in proposed if places.get((leaf.cycle, leaf.account_id, leaf.chain_id)) != leaf]
    faults = [
        f"cycle {leaf.cycle}: another entry of this account is known, or applied"
        for leaf in fresh
        if (leaf.cycle, leaf.account_id, leaf.chain_id) in places or leaf not in unapplied([leaf], world)
    ]
    entered: dict[tuple[AccountId, int], int] = {}
    vaults = dict(books.vaults)
    for number in sorted({leaf.cycle for leaf in fresh}):
        group = [leaf for leaf in fresh if leaf.cycle == number]
        ready = [_after(ledger, entered) for ledger in books.ledgers]
        faults += broken(group, ready, vaults, terms, number - 1, carried=number < newest)
        for leaf in group:
            key = (leaf.account_id, leaf.chain_id)
            entered[key] = entered.get(key, 0) + leaf.cash_delta
            enter(vaults, leaf)
        if number >= _COVERS and number not in {cover_number(leaf.account_id, newest) for leaf in group} | {
            cover_number(leaf.account_id, newest - _COVER_EPOCHS) for leaf in group
        }:
            faults.append(f"cycle {number}: not the number of a payment to any of its accounts")
    return faults


def _after(ledger: Ledger, entered: Mapping[tuple[AccountId, int], int]) -> Ledger:
    """A ledger beside the cycles judged already: the fund has paid, others may not enter again."""
    account = ledger.account.account_id
    if account == FUND:
        return replace(ledger, cash={c: cash + entered.get((FUND, c), 0) for c, cash in ledger.cash.items()})
    again = any((account, chain_id) in entered for chain_id in ledger.account.chains)
    return replace(ledger, may_enter=ledger.may_enter and not again)


def missing_entries(
    proposed: Sequence[SettlementLeaf], known: Sequence[SettlementLeaf], world: World
) -> list[SettlementLeaf]:
    """Signed entries that the blocks of the cut have not applied and the proposal does not carry."""
    carried = set(proposed)
    return [leaf for leaf in unapplied(known, world) if leaf not in carried]
