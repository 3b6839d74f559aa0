"""What the attestors sign, as plain values. Field names and order are the EIP-712 types of the contracts.

USD values, prices and sizes are integers scaled by 1e18, times are unix seconds, ids and roots are 32 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ids import ZERO32, AccountId, AssetId

UNIT = 10**18
"""One whole unit, or one USD."""
NO_DEPOSIT_TARGET = 2**256 - 1


@dataclass(frozen=True, slots=True)
class ChainCut:
    chain_id: int
    number: int
    block_hash: bytes
    time: int
    head_number: int
    head_time: int
    late: bool = False


@dataclass(frozen=True, slots=True)
class MarginBatch:
    epoch: int
    timestamp: int
    valid_until: int
    accounts_root: bytes
    marks_root: bytes
    liquidations_root: bytes
    settlements_root: bytes
    cut_hash: bytes
    parameters_hash: bytes
    attestor_set_id: int


@dataclass(frozen=True, slots=True)
class MarginLeaf:
    account_id: AccountId
    chain_id: int
    equity: int
    initial_margin: int
    maintenance_margin: int
    escape_limit: int = 0


@dataclass(frozen=True, slots=True)
class MarkLeaf:
    asset: AssetId
    price: int
    funding_index: int
    long_requirement: int
    short_requirement: int
    settled_at: int = 0


@dataclass(frozen=True, slots=True)
class LiquidationLeaf:
    account_id: AccountId
    chain_id: int
    asset: AssetId
    close_limit: int
    mark_price: int
    max_concession: int
    auction_start: int
    deposit_target: int = NO_DEPOSIT_TARGET
    counterparty: bytes = ZERO32


@dataclass(frozen=True, slots=True)
class SettlementLeaf:
    cycle: int
    account_id: AccountId
    chain_id: int
    cash_delta: int
