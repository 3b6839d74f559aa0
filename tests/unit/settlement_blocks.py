"""One chain after a block, for the settlement machine: cash, tokens, leaves applied, shipments burned and received."""

from __future__ import annotations

from dataclasses import dataclass, replace

from immutables import Map

from keeper.clearing.settlement import is_applied, is_shipment
from keeper.state.batch import SettlementLeaf
from keeper.state.ids import FUND, AccountId
from keeper.state.world import ChainState

SCALE = 10**12


@dataclass(frozen=True)
class Block:
    """One chain after a block: its ledger and tokens, the leaves of the batch it holds, what it says of cycles; and, to
    check it by, what each account's cash is without any settlement."""

    state: ChainState
    own: Map[AccountId, int]
    posted: tuple[SettlementLeaf, ...] = ()
    received: frozenset[tuple[int, int]] = frozenset()
    """Cycle and source of every shipment that the bridge completed here."""

    def paid(self, account: AccountId, amount: int) -> Block:
        """Cash from outside of any settlement."""
        return replace(self.booked(account, amount), own=self.own.set(account, self.own.get(account, 0) + amount))

    def booked(self, account: AccountId, amount: int) -> Block:
        cash = self.state.cash
        return replace(self, state=replace(self.state, cash=cash.set(account, cash.get(account, 0) + amount)))

    def tokens(self, amount: int) -> Block:
        """USD 1e18 more of them held."""
        return replace(self, state=replace(self.state, held=self.state.held + amount // SCALE))

    def applied(self, leaf: SettlementLeaf) -> Block | None:
        """As the clearing house does it; None where it refuses."""
        if leaf not in self.posted or is_applied(leaf, self.state):
            return None
        flag = self.state.applied.set((leaf.account_id, leaf.cycle), leaf.cash_delta)
        flagged = replace(self, state=replace(self.state, applied=flag))
        if not is_shipment(leaf):
            return flagged.booked(leaf.account_id, leaf.cash_delta).claiming(leaf.cash_delta)
        if self.state.held * SCALE < -leaf.cash_delta:
            return None
        return flagged.tokens(leaf.cash_delta).claiming(-leaf.cash_delta)

    def arrived(self, leaf: SettlementLeaf, fee: int) -> Block | None:
        """As the bridge and the clearing house do it; the fee is the fund's loss."""
        key = (leaf.cycle, leaf.chain_id)
        if key in self.received:
            return None
        taken = replace(self, received=self.received | {key})
        return taken.tokens(-leaf.cash_delta - fee).paid(FUND, -fee).claiming(leaf.cash_delta)

    def claiming(self, change: int) -> Block:
        return replace(self, state=replace(self.state, claims=self.state.claims + change))


View = dict[int, Block]
"""One block of each chain."""
