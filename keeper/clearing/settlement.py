"""Settlement cycles: each account's cash offset over its chains, and the transfers of tokens that this leaves.

An account's cash is one balance in margin, but it is booked where it arose: +100 on one chain and −40 on another. A
cycle (CM-50) moves 40 from the first to the second by two entries that sum to zero. What the entries of all accounts do
to a chain together is its net flow; it changes the chain's claims on the others,

    Σ cash of a chain = settlement token held there + claims,

and tokens are shipped from chains that hold more than their ledger owes (claims < 0) to chains that hold less
(claims > 0), with the fewest transfers: multilateral netting. A cycle for the fund moves cash between accounts on one
chain instead: it pays what an account's equity is below zero.

All of it is pure: figures at final blocks in, signed leaves out. Amounts are USD 1e18; entries are multiples of 1e-6
USD, the smallest amount of a token with six decimals.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from keeper.margin.listing import Listing
from keeper.margin.valuation import GRAIN
from keeper.state.batch import SettlementLeaf
from keeper.state.ids import FUND, AccountId, has_margin, transfer_id, transfer_target
from keeper.state.world import ChainState, MarginAccount, World, margin_accounts

from .transfers import Transfer, fewest_transfers


@dataclass(frozen=True, slots=True)
class Ledger:
    """A margin account's cash by chain, signed, USD 1e18.

    `may_enter` is False while an earlier entry of the account is not final on its chain. `deficit` is what its equity
    is below zero, 0 where it is not. `parting` accounts enter nothing that is not known yet: an unlink is live, and an
    entry applied after it would move cash from one part to another.
    """

    account: MarginAccount
    cash: Mapping[int, int]
    may_enter: bool = True
    deficit: int = 0
    parting: bool = False


@dataclass(frozen=True, slots=True)
class Vault:
    """Settlement token of one chain, USD 1e18: `held` for accounts, and `claims` of its ledger on other chains.

    `pending` is the sum of deltas signed for the chain and not applied; `outgoing` what is signed to be shipped and not
    shipped; `incoming` what is signed to be shipped here, or under way, and has not arrived.
    """

    held: int
    claims: int
    decimals: int
    pending: int = 0
    outgoing: int = 0
    incoming: int = 0

    @property
    def position(self) -> int:
        """What its claims will be once all that is signed has happened: positive where it is short of tokens."""
        return self.claims + self.pending + self.outgoing - self.incoming

    @property
    def available(self) -> int:
        """Held and not yet promised to another chain."""
        return max(0, self.held - self.outgoing)

    @property
    def unit(self) -> int:
        """The token's smallest amount, USD 1e18."""
        return int(10 ** (18 - self.decimals))


@dataclass(frozen=True, slots=True)
class Terms:
    """What is worth a cycle. USD 1e18: nothing smaller is shipped, no account enters with less to offset; and at most
    so many accounts enter, those with most to offset first, since every later batch carries their leaves."""

    least_transfer: int
    least_offset: int = GRAIN
    most_accounts: int = 1_000


@dataclass(frozen=True, slots=True)
class Cycle:
    """Leaves as they are signed: accounts by id and chain, then shipments, the neediest chain first.

    A shipment's account id is `transfer_id` of the chain it goes to, its chain the one that ships, its delta what that
    one sends, negative. It books no cash. `number` is unique among all cycles ever signed.
    """

    number: int
    entries: tuple[SettlementLeaf, ...]

    @property
    def offsets(self) -> list[SettlementLeaf]:
        """The entries that change an account's cash."""
        return [leaf for leaf in self.entries if not is_shipment(leaf)]

    @property
    def shipments(self) -> list[SettlementLeaf]:
        return [leaf for leaf in self.entries if is_shipment(leaf)]


def is_shipment(leaf: SettlementLeaf) -> bool:
    return transfer_target(leaf.account_id) is not None


def plan(ledgers: Iterable[Ledger], vaults: Mapping[int, Vault], number: int, terms: Terms) -> Cycle | None:
    """The cycle that offsets these accounts and ships what is then short; None where nothing is worth it.

    Only chains of `vaults` take part: leave out those that are late. Deterministic.
    """
    position = {chain_id: vault.position for chain_id, vault in sorted(vaults.items())}
    entries: list[SettlementLeaf] = []
    worth = [(to_offset(_taking_part(ledger, vaults)), ledger) for ledger in ledgers if ledger.may_enter]
    entering = [(amount, ledger) for amount, ledger in worth if amount >= max(terms.least_offset, GRAIN)]
    entering.sort(key=lambda entry: (-entry[0], entry[1].account.account_id, entry[1].account.chains))
    taken: set[AccountId] = set()
    for _, ledger in entering:
        account_id = ledger.account.account_id
        if len(taken) == terms.most_accounts:
            break
        if account_id in taken:  # of an id whose chains are two margin accounts one enters at a time
            continue
        taken.add(account_id)
        for chain_id, delta in offset(_taking_part(ledger, vaults), position).items():
            position[chain_id] += delta
            entries.append(SettlementLeaf(number, account_id, chain_id, delta))
    entries.sort(key=lambda leaf: (leaf.account_id, leaf.chain_id))
    shipped = [
        SettlementLeaf(number, transfer_id(each.target), each.source, -each.amount)
        for each in shipments(position, vaults, terms.least_transfer)
    ]
    return Cycle(number, (*entries, *shipped)) if entries or shipped else None


def offset(cash: Mapping[int, int], position: Mapping[int, int] | None = None) -> dict[int, int]:
    """Deltas by chain, ascending, that pay an account's negative balances from its positive ones.

    They sum to 0, are multiples of 1e-6 USD and move the least that leaves either no negative balance or no positive
    one (of 1e-6 USD or more). A balance that was not negative does not become so, and a negative one at most 1e-6 USD
    positive. Of all ways to do that it leaves the fewest chains with cash: smallest balances are emptied, or filled,
    first. Which further balance pays the rest is free; it is taken where `position` is highest, so that the chain most
    short of tokens owes less afterwards (and the rest is paid in where it is lowest).
    """
    needs = {chain_id: -(amount // GRAIN) * GRAIN for chain_id, amount in cash.items() if amount < 0}
    spare = {chain_id: amount // GRAIN * GRAIN for chain_id, amount in cash.items() if amount >= GRAIN}
    moved = min(sum(needs.values()), sum(spare.values()))
    short = position or {}
    paid_in = _least_first(needs, moved, {chain_id: -short.get(chain_id, 0) for chain_id in needs})
    paid_out = _least_first(spare, moved, short)
    deltas = {chain_id: paid_in.get(chain_id, 0) - paid_out.get(chain_id, 0) for chain_id in sorted(cash)}
    return {chain_id: delta for chain_id, delta in deltas.items() if delta}


def to_offset(cash: Mapping[int, int]) -> int:
    """What `offset` would move, USD 1e18."""
    return sum(delta for delta in offset(cash).values() if delta > 0)


def shipments(position: Mapping[int, int], vaults: Mapping[int, Vault], least: int) -> list[Transfer]:
    """The fewest transfers that bring tokens from chains with too much to chains that are short, neediest first.

    No more leaves a chain than it has available, in the coarsest of the tokens' decimals; where that is not enough, the
    chain whose vault is short already (its claims are highest) is served before one that only will be. What is smaller
    than `least` stays; at most (chains with a position) − 1 transfers remain.
    """
    unit = max((vault.unit for vault in vaults.values()), default=1)
    floor = max(least, unit)
    spare = {c: min(-p, vaults[c].available) // unit * unit for c, p in position.items() if p < 0}
    spare = {c: amount for c, amount in spare.items() if amount >= floor}
    short = {c: p // unit * unit for c, p in position.items() if p >= floor}
    neediest = sorted(short, key=lambda c: (-max(0, vaults[c].claims), -short[c], c))
    left = sum(spare.values())
    nets: dict[int, int] = {}
    for chain_id in neediest:
        amount = min(short[chain_id], left)
        if amount >= floor:
            nets[chain_id] = amount
            left -= amount
    left = sum(nets.values())
    for chain_id in sorted(spare, key=lambda c: (-spare[c], c)):
        nets[chain_id] = -min(spare[chain_id], left)
        left += nets[chain_id]
    found = [each for each in fewest_transfers(nets) if each.amount >= floor]
    return sorted(found, key=lambda each: (neediest.index(each.target), each.source))


def cover(ledgers: Iterable[Ledger], fund: Mapping[int, int], number: int, terms: Terms) -> Cycle | None:
    """The cycle by which the fund pays accounts' deficits; None where there are none, or the fund has nothing there.

    `fund` is its cash by chain, {} while it may not enter. On each chain the deltas sum to 0. The smallest deficits are
    paid first, so that as many accounts as possible are whole; each where the account owes most, then on its other
    chains. Deficits are rounded up and the fund's cash down to 1e-6 USD: the fund never becomes negative.
    """
    left = {chain_id: max(0, cash) // GRAIN * GRAIN for chain_id, cash in sorted(fund.items())}
    paid: dict[tuple[AccountId, int], int] = {}
    waiting = [ledger for ledger in ledgers if ledger.may_enter and ledger.deficit > 0]
    waiting.sort(key=lambda each: (each.deficit, each.account.account_id, each.account.chains))
    for ledger in waiting[: terms.most_accounts]:
        missing = -(-ledger.deficit // GRAIN) * GRAIN
        for chain_id in sorted(ledger.account.chains, key=lambda c: (ledger.cash.get(c, 0), c)):
            amount = min(missing, left.get(chain_id, 0))
            if amount:
                paid[(ledger.account.account_id, chain_id)] = amount
                paid[(FUND, chain_id)] = paid.get((FUND, chain_id), 0) - amount
                left[chain_id] -= amount
                missing -= amount
    entries = tuple(SettlementLeaf(number, account, chain, delta) for (account, chain), delta in sorted(paid.items()))
    return Cycle(number, entries) if entries else None


# --- what is signed and not final yet --------------------------------------------------------------------------------


def unapplied(signed: Iterable[SettlementLeaf], world: World) -> list[SettlementLeaf]:
    """The leaves that these blocks have not applied; a chain of which nothing is known has applied none."""
    return [leaf for leaf in signed if leaf.chain_id not in world or not is_applied(leaf, world[leaf.chain_id])]


def is_applied(leaf: SettlementLeaf, state: ChainState) -> bool:
    """Whether the state of its chain has the leaf's flag, and so, at the same block, its delta in the cash."""
    return (leaf.account_id, leaf.cycle) in state.applied


def ledgers(
    world: World,
    signed: Iterable[SettlementLeaf] = (),
    deficits: Mapping[MarginAccount, int] | None = None,
    parting: Container[AccountId] = (),
) -> list[Ledger]:
    """Every margin account's cash at these blocks, and the fund's.

    `signed` are all leaves whose application is not known to be final; an account with one of them waiting on any chain
    may not enter, nor may one of `parting`. What integrators have claimed is not netted between chains.
    """
    waiting = {leaf.account_id for leaf in unapplied(signed, world)}
    return [
        Ledger(
            account,
            {chain_id: world[chain_id].cash.get(account.account_id, 0) for chain_id in account.chains},
            account.account_id not in waiting and account.account_id not in parting,
            (deficits or {}).get(account, 0),
            account.account_id in parting,
        )
        for account in margin_accounts(world)
        if takes_part(account.account_id)
    ]


def takes_part(account: AccountId) -> bool:
    """Whether a cycle may change an account's cash: an owner's, or the fund's."""
    return has_margin(account) or account == FUND


def vaults(world: World, listing: Listing, signed: Iterable[SettlementLeaf]) -> dict[int, Vault]:
    """Every chain's tokens at these blocks, with what is signed and has not happened there. The world has every chain.

    What arrived on a chain is what its claims lack of all that it applied: they rise by deltas and by what it ships,
    and fall by what arrives, before the bridge's fee. So the blocks say by themselves what is under way.
    """
    found = {
        chain_id: Vault(
            held=state.held * listing.settlement[chain_id].scale,
            claims=state.claims,
            decimals=listing.settlement[chain_id].token.decimals,
            incoming=state.claims - _claimed(state),
        )
        for chain_id, state in sorted(world.items())
    }
    for state in world.values():
        for (account, _), delta in state.applied.items():
            _expect(found, account, delta)
    for leaf in unapplied(signed, world):
        enter(found, leaf)
    return found


def enter(vaults: dict[int, Vault], leaf: SettlementLeaf) -> None:
    """Count a leaf that is signed and has not happened yet; one of a chain that is not there changes nothing."""
    own = vaults.get(leaf.chain_id)
    if own is None:
        return
    if is_shipment(leaf):
        vaults[leaf.chain_id] = replace(own, outgoing=own.outgoing - leaf.cash_delta)
    else:
        vaults[leaf.chain_id] = replace(own, pending=own.pending + leaf.cash_delta)
    _expect(vaults, leaf.account_id, leaf.cash_delta)


def _expect(vaults: dict[int, Vault], account: AccountId, delta: int) -> None:
    """What is shipped is on its way to where it goes, signed or under way."""
    target = transfer_target(account)
    if target in vaults:
        vaults[target] = replace(vaults[target], incoming=vaults[target].incoming - delta)


def _claimed(state: ChainState) -> int:
    """What a chain's claims would be had nothing ever arrived."""
    return sum(delta if transfer_target(account) is None else -delta for (account, _), delta in state.applied.items())


def _taking_part(ledger: Ledger, vaults: Mapping[int, Vault]) -> dict[int, int]:
    return {c: ledger.cash.get(c, 0) for c in ledger.account.chains if c in vaults}


def _least_first(balances: Mapping[int, int], amount: int, preferred: Mapping[int, int]) -> dict[int, int]:
    """`amount` taken from balances: the smallest in full while they fit, the rest from the most preferred that is left.

    Each that is left is larger than the rest, since the smallest of them no longer fitted.
    """
    taken: dict[int, int] = {}
    for chain_id in sorted(balances, key=lambda c: (balances[c], c)):
        if balances[chain_id] > amount:
            break
        taken[chain_id] = balances[chain_id]
        amount -= balances[chain_id]
    if amount:
        rest = [chain_id for chain_id in balances if chain_id not in taken]
        taken[min(rest, key=lambda c: (-preferred.get(c, 0), c))] = amount
    return taken
