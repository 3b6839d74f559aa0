"""The acts that need a permit, the orders behind a trade, and the permit itself, as plain values.

Field names and order are the EIP-712 types of the contracts. Amounts of tokens have the token's decimals; everything
else in USD, price or size is scaled by 1e18.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ids import ZERO32, ZERO_ADDRESS, AccountId, Address, AssetId


@dataclass(frozen=True, slots=True)
class Withdraw:
    account_id: AccountId
    token: Address
    amount: int
    receiver: Address


@dataclass(frozen=True, slots=True)
class Trade:
    """One match of two orders, by their EIP-712 hashes; `size` is the maker's, positive where the maker buys."""

    maker_order: bytes
    taker_order: bytes
    size: int
    price: int


@dataclass(frozen=True, slots=True)
class Reserve:
    """A reservation; or, with `until` 0, which no reservation has, the clearance of an integrator's claim: `amount` of
    the rest that it is owed counts as a cash part from then on. `submitter` may send it as the owner may; zero names
    nobody."""

    account_id: AccountId
    integrator: Address
    amount: int
    cash_part: int
    until: int
    submitter: Address = ZERO_ADDRESS

    @property
    def clears(self) -> bool:
        return self.until == 0


@dataclass(frozen=True, slots=True)
class Takeover:
    """The taker takes `size` (unsigned) of `asset` from `liquidated`."""

    account_id: AccountId
    liquidated: AccountId
    asset: AssetId
    size: int


@dataclass(frozen=True, slots=True)
class Move:
    source: AccountId
    target: AccountId
    asset: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Unlink:
    """On the permit's chain the account names `chain_id` no more: what only that link joined is parted."""

    account_id: AccountId
    chain_id: int


Action = Withdraw | Trade | Reserve | Takeover | Move | Unlink


@dataclass(frozen=True, slots=True)
class Order:
    """Buys `size` where positive, sells where negative; `max_fee` in USD per whole unit; zero submitter: anyone."""

    account_id: AccountId
    asset: AssetId
    size: int
    limit_price: int
    max_fee: int
    nonce: int
    deadline: int
    submitter: Address = ZERO_ADDRESS


@dataclass(frozen=True, slots=True)
class Permit:
    account_id: AccountId
    counterparty_id: bytes
    action_hash: bytes
    nonce: int
    deadline: int
    attestor_set_id: int


@dataclass(frozen=True, slots=True)
class PermitRequest:
    account_id: AccountId
    action_hash: bytes
    nonce: int
    deadline: int


NO_COUNTERPARTY = ZERO32
