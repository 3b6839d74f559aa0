"""One deployment over several chains: what was deployed where, as the deployments file says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ids import Address, AssetId, IdError, address, parse_instrument, token_id

PERPETUAL_FEED = "-PERP"
"""Behind an underlying's name: the feed of its perpetual's price in the market, which funding follows."""
VOL_FEED = "-VOL"
"""Behind an underlying's name: the feed of its at-the-money implied vol per year."""


class DeploymentError(ValueError):
    """A deployments file that cannot be used; the message names the file, the field and the value."""


@dataclass(frozen=True, slots=True)
class Token:
    """`underlying` names the price a collateral token counts at; empty for the settlement token."""

    symbol: str
    address: Address
    decimals: int
    underlying: str = ""

    @property
    def settlement(self) -> bool:
        return not self.underlying


@dataclass(frozen=True, slots=True)
class Contracts:
    history: Address
    verifier: Address
    clearing_house: Address
    vault: Address
    reservations: Address
    lens: Address


@dataclass(frozen=True, slots=True)
class ChainDeployment:
    """`feeds` maps an underlying, or the settlement token's symbol, to its AggregatorV3 feed on this chain."""

    chain_id: int
    name: str
    rpc: str
    block_seconds: float
    deploy_block: int
    contracts: Contracts
    settlement: Token
    collateral: tuple[Token, ...]
    feeds: Mapping[str, Address]
    integrator: Address | None = None
    """The devnet's example integrator, where there is one."""

    def token_assets(self) -> dict[AssetId, Token]:
        """Collateral tokens by their asset id."""
        return {token_id(self.chain_id, t.address): t for t in self.collateral}


@dataclass(frozen=True, slots=True)
class Profile:
    """Constants of a deployment, immutable in its contracts. Seconds, USD 1e18, and fractions of 1e18."""

    epoch_seconds: int = 2
    heartbeat_seconds: int = 15
    ramp_seconds: int = 20
    price_band: int = 5 * 10**16
    fee_rate: int = 2 * 10**14
    flat_fee: int = 10**18
    fund_share: int = 2 * 10**17
    """Of a liquidation's concession, the part that the taker passes on to the fund."""
    max_funding_rate: int = 75 * 10**14 // 3600
    """Of the mark, how far a funding index may move in a second: 0.75 % an hour."""
    max_age_seconds: int = 60
    grace_seconds: int = 60
    max_skew_seconds: int = 60
    max_permit_seconds: int = 900
    settlement_window: int = 1800
    """Seconds before an expiry over which its settlement price is averaged."""


@dataclass(frozen=True, slots=True)
class Deployment:
    name: str
    version: str
    deployment_id: bytes
    parameters_hash: bytes
    attestors: tuple[Address, ...]
    """Ascending."""
    threshold: int
    attestor_set_id: int
    profile: Profile
    chains: Mapping[int, ChainDeployment]
    instruments: tuple[AssetId, ...] = ()
    """Futures and options that trade, on every chain; perpetuals are listed by their underlyings. Ascending."""

    def underlyings(self) -> tuple[str, ...]:
        """Every underlying with a feed on any chain, sorted; the settlement tokens are not among them."""
        settlement = {c.settlement.symbol for c in self.chains.values()}
        prices = {u for c in self.chains.values() for u in c.feeds if not u.endswith((PERPETUAL_FEED, VOL_FEED))}
        return tuple(sorted(prices - settlement))

    @property
    def settlement_chain(self) -> int:
        """The chain whose feeds settle what expires: the first."""
        return min(self.chains)

    @classmethod
    def load(cls, path: Path) -> Deployment:
        """Read a deployments file.

        Raises:
            DeploymentError: missing file, malformed JSON, or a field that is missing or has the wrong form.
        """
        try:
            return cls.from_json(json.loads(path.read_text()))
        except FileNotFoundError:
            raise DeploymentError(f"no deployments file at {path}: is the devnet up?") from None
        except json.JSONDecodeError as error:
            raise DeploymentError(f"{path}: not JSON: {error}") from None
        except KeyError as error:
            raise DeploymentError(f"{path}: field {error} is missing") from None
        except (TypeError, ValueError, IdError) as error:
            raise DeploymentError(f"{path}: {error}") from None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Deployment:
        return cls(
            name=data["name"],
            version=data["version"],
            deployment_id=bytes.fromhex(data["deploymentId"].removeprefix("0x")),
            parameters_hash=bytes.fromhex(data["parametersHash"].removeprefix("0x")),
            attestors=tuple(sorted(address(a) for a in data["attestors"])),
            threshold=int(data["threshold"]),
            attestor_set_id=int(data["attestorSetId"]),
            profile=Profile(**{k: int(v) for k, v in data["profile"].items()}),
            chains={
                int(k): _chain_from_json(int(k), v) for k, v in sorted(data["chains"].items(), key=lambda i: int(i[0]))
            },
            instruments=tuple(sorted(_instrument(entry) for entry in data.get("instruments", ()))),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "deploymentId": "0x" + self.deployment_id.hex(),
            "parametersHash": "0x" + self.parameters_hash.hex(),
            "attestors": ["0x" + a.hex() for a in self.attestors],
            "threshold": self.threshold,
            "attestorSetId": self.attestor_set_id,
            "profile": {name: getattr(self.profile, name) for name in Profile.__slots__},
            "chains": {str(c.chain_id): _chain_to_json(c) for c in self.chains.values()},
            "instruments": ["0x" + asset.hex() for asset in self.instruments],
        }


def _instrument(value: str) -> AssetId:
    asset = AssetId(bytes.fromhex(value.removeprefix("0x")))
    if not parse_instrument(asset).expiry:
        raise DeploymentError(f"instrument {value}: perpetuals are listed by their underlying's feed")
    return asset


def _token_from_json(symbol: str, data: Mapping[str, Any]) -> Token:
    return Token(symbol, address(data["address"]), int(data["decimals"]), data.get("underlying", ""))


def _chain_from_json(chain_id: int, data: Mapping[str, Any]) -> ChainDeployment:
    tokens = [_token_from_json(symbol, token) for symbol, token in data["tokens"].items()]
    settlement = [t for t in tokens if t.settlement]
    if len(settlement) != 1:
        raise DeploymentError(f"chain {chain_id}: one settlement token wanted, found {[t.symbol for t in settlement]}")
    integrator = data.get("integrator")
    return ChainDeployment(
        chain_id=chain_id,
        name=data["name"],
        rpc=data["rpc"],
        block_seconds=float(data["blockSeconds"]),
        deploy_block=int(data["deployBlock"]),
        contracts=Contracts(**{name: address(data["contracts"][name]) for name in Contracts.__slots__}),
        settlement=settlement[0],
        collateral=tuple(t for t in tokens if not t.settlement),
        feeds={name: address(feed) for name, feed in data["feeds"].items()},
        integrator=address(integrator) if integrator else None,
    )


def _chain_to_json(chain: ChainDeployment) -> dict[str, Any]:
    tokens = (chain.settlement, *chain.collateral)
    return {
        "name": chain.name,
        "rpc": chain.rpc,
        "blockSeconds": chain.block_seconds,
        "deployBlock": chain.deploy_block,
        "contracts": {name: "0x" + getattr(chain.contracts, name).hex() for name in Contracts.__slots__},
        "tokens": {
            t.symbol: {"address": "0x" + t.address.hex(), "decimals": t.decimals}
            | ({"underlying": t.underlying} if t.underlying else {})
            for t in tokens
        },
        "feeds": {name: "0x" + feed.hex() for name, feed in chain.feeds.items()},
    } | ({"integrator": "0x" + chain.integrator.hex()} if chain.integrator else {})
