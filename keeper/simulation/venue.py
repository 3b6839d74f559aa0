"""Money and positions of everybody, in whole numbers, so that nothing is made or lost by rounding.

Beside the accounts there are three parties: the outside market that takes the other side of every order, the bidders
of auctions together, and the insurance fund. A fill books the same lots and the same micro-dollars on both sides. So at
all times the sizes of a perpetual sum to zero on each chain (CM-31) and cash sums to what it was (CM-30); as sizes sum
to zero, so does equity at any price.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .population import MICRO, Accounts
from .requirement import Floats, Ints, Requirements

MARKET, BIDDERS, FUND = 0, 1, 2
PARTIES = ("market", "bidders", "fund")


@dataclass(slots=True)
class Ledger:
    """What liquidations moved, micro-USD, beside the gains and losses of positions by the price.

    slipped: from liquidated accounts to the market, fills against the mark; conceded: from them to bidders, of which
    shared goes on to the fund; unloaded: from bidders and the fund to the market, as slipped; covered: from the fund to
    insolvent accounts; deleveraged: to them from the counterparties that are closed at the bankruptcy price.
    """

    slipped: int = 0
    conceded: int = 0
    shared: int = 0
    unloaded: int = 0
    covered: int = 0
    deleveraged: int = 0


@dataclass(slots=True, eq=False)
class Venue:
    """Accounts and parties. `sold`, `taken`: notional in USD closed by force of each account, in liquidation and as a
    counterparty in deleveraging; `lost`: what the latter cost it, USD."""

    accounts: Accounts
    party_cash: Ints
    party_size: Ints
    net: Floats
    sold: Floats
    taken: Floats
    lost: Floats
    ledger: Ledger = field(default_factory=Ledger)

    @classmethod
    def of(cls, accounts: Accounts, fund: float) -> Venue:
        count, chains, width = accounts.size.shape
        cash = np.array([0, 0, round(fund * MICRO)], dtype=np.int64)
        nothing = np.zeros((3, count))
        return cls(
            accounts,
            cash,
            np.zeros((3, chains, width), dtype=np.int64),
            accounts.size.sum(axis=1) / MICRO,
            nothing[0],
            nothing[1],
            nothing[2],
        )

    def equity(self, prices: Floats) -> Floats:
        """Of every account, USD."""
        return np.asarray(self.accounts.cash / MICRO + self.net @ prices)

    def party_equity(self, prices: Floats) -> Floats:
        return np.asarray(self.party_cash / MICRO + self.party_size.sum(axis=1) / MICRO @ prices)

    def free(self, prices: Floats, need: Requirements) -> float:
        """What the fund can pay: its equity less the initial margin of the positions that it took."""
        initial = need.of(self.party_size[FUND].sum(axis=0)[None, :] / MICRO, prices)[0]
        return float(self.party_equity(prices)[FUND] - initial[0])

    def money(self) -> int:
        """Cash of all, micro-USD."""
        return int(self.accounts.cash.sum()) + int(self.party_cash.sum())

    def sizes(self) -> Ints:
        """Sum of all sizes by chain and underlying, lots."""
        return np.asarray(self.accounts.size.sum(axis=0) + self.party_size.sum(axis=0))

    def fill(self, rows: NDArray[np.intp], lots: Ints, prices: Floats, party: int) -> None:
        """A party takes `lots` (signed as the positions, shape (rows, chains, underlyings)) at USD a unit that
        broadcast to them; every row once."""
        paid = np.rint(lots * prices).astype(np.int64)
        self._move(rows, lots, paid.sum(axis=(1, 2)))
        self.party_size[party] += lots.sum(axis=0)
        self.party_cash[party] -= int(paid.sum())

    def _move(self, rows: NDArray[np.intp], lots: Ints, cash: Ints) -> None:
        """Take lots from accounts for cash: half of a fill."""
        self.accounts.size[rows] -= lots
        self.accounts.cash[rows] += cash
        self.net[rows] = self.accounts.size[rows].sum(axis=1) / MICRO

    def between(self, payer: int, payee: int, amount: int) -> None:
        """Micro-USD from one party to another."""
        self.party_cash[payer] -= amount
        self.party_cash[payee] += amount

    def cover(self, rows: NDArray[np.intp], amounts: Ints) -> None:
        """Micro-USD from the fund to accounts, each once."""
        self.accounts.cash[rows] += amounts
        self.party_cash[FUND] -= int(amounts.sum())
        self.ledger.covered += int(amounts.sum())

    def settle(self, rows: NDArray[np.intp]) -> None:
        """The fund pays what accounts without positions owe."""
        flat = rows[(self.accounts.size[rows] == 0).all(axis=(1, 2)) & (self.accounts.cash[rows] < 0)]
        self.cover(flat, -self.accounts.cash[flat])

    def hand_over(self, row: int, debt: int) -> None:
        """The fund takes an account's cash and positions as they are, and with them its debt (micro-USD)."""
        accounts = self.accounts
        self.party_size[FUND] += accounts.size[row]
        self.party_cash[FUND] += accounts.cash[row]
        accounts.size[row], accounts.cash[row], self.net[row] = 0, 0, 0.0
        self.ledger.covered += debt

    def exchange(self, rows: NDArray[np.intp], lots: Ints, cash: Ints) -> None:
        """Accounts take `lots` of one another and pay `cash`: both sides of deleveraging; what is left over of either
        is the market's. Shapes (rows, chains, underlyings) and (rows,)."""
        self._move(rows, -lots, -cash)
        self.party_size[MARKET] -= lots.sum(axis=0)
        self.party_cash[MARKET] += int(cash.sum())
