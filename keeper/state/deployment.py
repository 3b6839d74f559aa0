"""One deployment over several chains: what was deployed where, as the deployments file says it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ids import Address, AssetId, IdError, address, parse_instrument, token_id


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


PERPETUAL, VOL = "-PERP", "-VOL"
"""How names of feeds end that are of an underlying and not its price."""


@dataclass(frozen=True, slots=True)
class Contracts:
    history: Address
    verifier: Address
    clearing_house: Address
    vault: Address
    reservations: Address
    lens: Address


@dataclass(frozen=True, slots=True)
class Cctp:
    """Circle's token messenger and message transmitter (version 2) on a chain, and Circle's number of that chain."""

    messenger: Address
    transmitter: Address
    domain: int


@dataclass(frozen=True, slots=True)
class ChainDeployment:
    """`feeds` maps names to AggregatorV3 feeds on this chain.

    An underlying, or the settlement token's symbol, names its price in USD; `ETH-PERP` the price of the perpetual on
    ETH, `ETH-VOL` ETH's implied vol at the money for thirty days.
    """

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
    bridge: Address | None = None
    """The adapter that ships the settlement token to other chains; None where nothing is shipped."""
    cctp: Cctp | None = None
    """What the adapter works on."""
    pool: Address | None = None
    """A Uniswap v3 pool of a collateral token and the settlement token."""
    swapper: Address | None = None
    """The contract by which one sells to it."""
    code_hashes: Mapping[str, bytes] = field(default_factory=dict)
    """Of every contract of `parts`, the keccak of its code on this chain, 32 bytes."""

    def parts(self) -> dict[str, Address]:
        """Every contract of this chain by what it is: `contracts.vault`, `tokens.USDC`, `feeds.ETH`, `bridge`, …"""
        found = {f"contracts.{name}": getattr(self.contracts, name) for name in Contracts.__slots__}
        found |= {f"tokens.{token.symbol}": token.address for token in (self.settlement, *self.collateral)}
        found |= {f"feeds.{name}": feed for name, feed in self.feeds.items()}
        if self.cctp is not None:
            found |= {"cctp.messenger": self.cctp.messenger, "cctp.transmitter": self.cctp.transmitter}
        named = {name: getattr(self, name) for name in _OPTIONAL}
        return found | {name: where for name, where in named.items() if where is not None}

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
    cycle_seconds: int = 20
    """How often a settlement cycle is planned at most."""
    least_transfer: int = 100 * 10**18
    """Less is not shipped between chains, USD 1e18."""
    least_offset: int = 25 * 10**18
    """With less to offset no account enters a cycle, USD 1e18."""
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
        names = {name for c in self.chains.values() for name in c.feeds if not name.endswith((PERPETUAL, VOL))}
        return tuple(sorted(names - settlement))

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
        except OSError as error:
            raise DeploymentError(f"{path}: not readable: {error.strerror}") from None
        except (AttributeError, TypeError, ValueError, IdError) as error:
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


_OPTIONAL = ("integrator", "bridge", "pool", "swapper")
"""Addresses that a chain may lack."""


def _token_from_json(symbol: str, data: Mapping[str, Any]) -> Token:
    return Token(symbol, address(data["address"]), int(data["decimals"]), data.get("underlying", ""))


def _chain_from_json(chain_id: int, data: Mapping[str, Any]) -> ChainDeployment:
    tokens = [_token_from_json(symbol, token) for symbol, token in data["tokens"].items()]
    settlement = [t for t in tokens if t.settlement]
    if len(settlement) != 1:
        raise DeploymentError(f"chain {chain_id}: one settlement token wanted, found {[t.symbol for t in settlement]}")
    cctp = data.get("cctp")
    optional = {name: address(data[name]) for name in _OPTIONAL if name in data}
    chain = ChainDeployment(
        chain_id=chain_id,
        name=data["name"],
        rpc=data["rpc"],
        block_seconds=_seconds(chain_id, data["blockSeconds"]),
        deploy_block=int(data["deployBlock"]),
        contracts=Contracts(**{name: address(data["contracts"][name]) for name in Contracts.__slots__}),
        settlement=settlement[0],
        collateral=tuple(t for t in tokens if not t.settlement),
        feeds={name: address(feed) for name, feed in data["feeds"].items()},
        cctp=Cctp(address(cctp["messenger"]), address(cctp["transmitter"]), int(cctp["domain"])) if cctp else None,
        code_hashes={name: _hash(name, value) for name, value in data["codeHashes"].items()},
        **optional,
    )
    # Where a hash is missing any code would do.
    if odd := chain.parts().keys() ^ chain.code_hashes.keys():
        raise DeploymentError(f"chain {chain_id}: codeHashes wants one hash for each contract, see {sorted(odd)}")
    return chain


def _seconds(chain_id: int, value: Any) -> float:
    seconds = float(value)
    if not (math.isfinite(seconds) and seconds > 0):
        raise DeploymentError(f"chain {chain_id}: blockSeconds is {value}, wanted seconds above 0")
    return seconds


def _hash(name: str, value: str) -> bytes:
    found = bytes.fromhex(value.removeprefix("0x"))
    if len(found) != 32:
        raise DeploymentError(f"codeHashes.{name}: a hash has 32 bytes, got {len(found)}")
    return found


def _chain_to_json(chain: ChainDeployment) -> dict[str, Any]:
    tokens = (chain.settlement, *chain.collateral)
    data: dict[str, Any] = {
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
        "codeHashes": {name: "0x" + value.hex() for name, value in chain.code_hashes.items()},
    }
    if chain.cctp is not None:
        data["cctp"] = {
            "messenger": "0x" + chain.cctp.messenger.hex(),
            "transmitter": "0x" + chain.cctp.transmitter.hex(),
            "domain": chain.cctp.domain,
        }
    named = {name: getattr(chain, name) for name in _OPTIONAL}
    return data | {name: "0x" + where.hex() for name, where in named.items() if where is not None}
