"""An account's margin with what explains it, its leaf and proof, and marks."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from keeper.state.batch import MarginLeaf, MarkLeaf
from keeper.state.live import LegItem, PermitItem

from .base import Amount, Answer, Count, Hex, Hex20, Hex32, Wire
from .examples import ACCOUNT, ACCOUNT_PROOF, MARK_PROOF, SIGNED

MarginStatus = Literal["healthy", "at_risk", "liquidatable"]


class Usd(Answer):
    """Figures as numbers, USD, for people; the exact ones stand beside."""

    equity: float
    initial_margin: float
    maintenance_margin: float
    free: float
    reserved: float


class Balance(Answer):
    """Of a collateral token, in the token's smallest units."""

    symbol: str
    decimals: int
    amount: Amount


class Reservation(Answer):
    """Margin that an integrator may claim until `until`, unix seconds of its chain; USD 1e18."""

    amount: Amount
    cash_part: Amount
    until: Count


class Holdings(Answer):
    """What an account holds on one chain, at this node's final block of it."""

    chain: Count
    cash: Amount = Field(description="USD 1e18")
    positions: dict[Hex32, Amount] = Field(description="Sizes by asset id, 1e18")
    balances: dict[Hex20, Balance] = Field(description="Collateral by token address")
    reservations: dict[Hex20, Reservation] = Field(description="Those that count, by integrator")
    lapsed_reservations: dict[Hex20, Reservation] = Field(
        description="Those whose end the final block is past: they count no more, and cannot be claimed"
    )
    linked: list[Count]


class Equity(Answer):
    total: float
    cash: float
    mark_to_market: float
    collateral: float


class Term(Answer):
    """One term of the requirement, with the scenario that sets it, USD."""

    term: str
    scenario: str
    pnl: float
    initial: float
    maintenance: float
    by_position: dict[str, float]


class Netting(Answer):
    """What the pieces would require standing alone, and how much less the whole does, USD."""

    standalone: dict[str, float]
    standalone_sum: float
    portfolio: float
    benefit: float
    efficiency: float | None


class LiquidationPrice(Answer):
    """The nearest price below and above today's from which on the account is liquidatable, USD; null: there is none."""

    price: float
    below: float | None
    above: float | None


class Explained(Answer):
    """Why an account must hold what it must hold, USD."""

    model: str
    status: MarginStatus
    equity: Equity
    initial_margin: float
    maintenance_margin: float
    free: float
    reserved: float
    terms: list[Term]
    binding: str | None = Field(description="The scenario that costs most")
    netting: Netting
    liquidation_prices: dict[str, LiquidationPrice]


class MarginAccount(Answer):
    """One margin account: the account on a connected component of its links. Amounts in USD 1e18."""

    chains: list[Count]
    status: MarginStatus
    equity: Amount
    initial_margin: Amount
    maintenance_margin: Amount
    free: Amount
    reserved: Amount
    usd: Usd
    holdings: list[Holdings]
    explain: Explained
    netting_by_chain: Netting


class Live(Answer):
    """A permit, or a liquidation leg, that may still be executed."""

    description: str = Field(description="What it is, with amount, chain and deadline, in words")
    chain_id: Count
    until: Count = Field(description="Dead once a final block of its chain is later, unix seconds")
    accounts: list[Hex32] = Field(description="Every account that it counts against")
    item: Annotated[PermitItem | LegItem, Wire()]


class Account(Answer):
    """Every margin account of an id, at this node's final blocks."""

    model_config = ConfigDict(json_schema_extra={"examples": [ACCOUNT]})

    account_id: Hex32
    owner: Hex20
    sub_account: Amount
    margin_accounts: list[MarginAccount]
    live: list[Live] | None = Field(description="On any account of the owner; null where no attestor said")
    live_from: list[Hex20] | Literal["unknown here"] = Field(description="The attestors that said what is live")
    free_nonce: Amount | None = Field(
        description="The lowest nonce of this account that is neither used nor live, on any chain; nonces are "
        "unordered, so any other that was never used will do. Null where it is not known what is live"
    )


class AccountProof(Answer):
    """An account's leaf on one chain, and its proof against the batch that the chain holds."""

    model_config = ConfigDict(json_schema_extra={"examples": [ACCOUNT_PROOF]})

    epoch: Count
    timestamp: Count
    leaf: Annotated[MarginLeaf, Wire()]
    proof: list[Hex32]
    arguments: list[list[str]] = Field(
        min_length=2,
        max_length=2,
        description="Leaf, its members in the order of the ABI, and proof: as MarginVerifier takes them. "
        "Integers are decimal text",
    )

    def call(self) -> tuple[tuple[Any, ...], list[bytes]]:
        """The same two as Python's own values, as web3.py takes them."""
        return tuple(getattr(self.leaf, member.name) for member in dataclasses.fields(self.leaf)), self.proof


class MarkProof(Answer):
    """An asset's mark, and its proof against the batch that a chain holds."""

    model_config = ConfigDict(json_schema_extra={"examples": [MARK_PROOF]})

    epoch: Count
    timestamp: Count
    leaf: Annotated[MarkLeaf, Wire()]
    proof: list[Hex32]
    arguments: list[list[str]] = Field(
        min_length=2,
        max_length=2,
        description="Leaf, its members in the order of the ABI, and proof: as ClearingHouse takes them. "
        "Integers are decimal text",
    )

    def call(self) -> tuple[tuple[Any, ...], list[bytes]]:
        """The same two as Python's own values, as web3.py takes them."""
        return tuple(getattr(self.leaf, member.name) for member in dataclasses.fields(self.leaf)), self.proof


class SignedPermit(Answer):
    """A permit that a quorum signed, ready as calldata."""

    model_config = ConfigDict(json_schema_extra={"examples": [SIGNED]})

    item: Annotated[PermitItem, Wire()]
    digest: Hex32
    signatures: Hex = Field(description="65 bytes each, in ascending order of signers")
    signers: list[Hex20]
