"""What a deployment lists: the settlement token of each chain, the collateral tokens, the underlyings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keeper.state.deployment import Deployment, Token
from keeper.state.ids import Address, AssetId, IdError, Kind, is_token, parse_instrument


class UnknownAsset(ValueError):
    """An asset that the deployment does not list; the message carries it."""


@dataclass(frozen=True, slots=True)
class CollateralToken:
    """A listed token other than the settlement token. `scale` turns its amounts into 1e18."""

    chain_id: int
    token: Token
    scale: int

    @property
    def underlying(self) -> str:
        return self.token.underlying

    @property
    def decimals(self) -> int:
        return self.token.decimals


@dataclass(frozen=True, slots=True)
class SettlementToken:
    """The token that is cash on one chain. `scale` turns its amounts into USD 1e18."""

    token: Token
    scale: int

    @property
    def address(self) -> Address:
        return self.token.address


@dataclass(frozen=True, slots=True)
class Listing:
    """`collateral` by asset id, `settlement` by chain id, `underlyings` sorted, `kinds` of instruments.

    `dated` are the instruments with an expiry that are listed; None where every one is.
    """

    collateral: Mapping[AssetId, CollateralToken]
    settlement: Mapping[int, SettlementToken]
    underlyings: tuple[str, ...]
    kinds: frozenset[Kind] = frozenset({Kind.PERPETUAL})
    dated: frozenset[AssetId] | None = None

    @classmethod
    def of(cls, deployment: Deployment) -> Listing:
        """What `deployment` lists, in ascending order of chains and ids."""
        return cls(
            collateral={
                asset: CollateralToken(chain_id, token, 10 ** (18 - token.decimals))
                for chain_id in sorted(deployment.chains)
                for asset, token in sorted(deployment.chains[chain_id].token_assets().items())
            },
            settlement={
                chain_id: SettlementToken(chain.settlement, 10 ** (18 - chain.settlement.decimals))
                for chain_id, chain in sorted(deployment.chains.items())
            },
            underlyings=deployment.underlyings(),
            kinds=frozenset({Kind.PERPETUAL, *(parse_instrument(asset).kind for asset in deployment.instruments)}),
            dated=frozenset(deployment.instruments),
        )

    def underlying_of(self, asset: AssetId) -> str:
        """The underlying whose price an instrument or a collateral token counts at.

        Raises:
            UnknownAsset: no listed token, or no instrument of a listed kind on a listed underlying.
        """
        if is_token(asset):
            if asset not in self.collateral:
                raise UnknownAsset(f"token 0x{asset.hex()} is not listed")
            return self.collateral[asset].underlying
        try:
            instrument = parse_instrument(asset)
        except IdError as error:
            raise UnknownAsset(str(error)) from None
        if instrument.kind not in self.kinds or instrument.underlying not in self.underlyings:
            raise UnknownAsset(f"{instrument.kind.name.lower()} on {instrument.underlying} is not listed")
        if instrument.expiry and self.dated is not None and asset not in self.dated:
            raise UnknownAsset(f"instrument 0x{asset.hex()} is not listed")
        return instrument.underlying
