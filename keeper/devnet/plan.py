"""What a chain gets, in the order in which it is created, and so where everything will be.

Contracts name each other in constructors. Their addresses follow from the deployer and its nonce, so they are known
before anything is sent; the same deployer with the same nonce gets the same addresses on every chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import rlp
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from keeper.chain.uniswap import sqrt_price
from keeper.margin.parameter_file import default_parameters
from keeper.state.deployment import VOL, Cctp, ChainDeployment, Contracts, Deployment, Profile, Token
from keeper.state.ids import Address, AssetId, address

from . import chains, liquidity
from .processes import Node

CORE = ("history", "verifier", "clearing_house", "vault", "lens")
"""In the order of creation. The reservations, whose constructor reads the vault, come last of all contracts."""
WAVES = {
    "DevnetToken": 0,
    "DevnetFeed": 0,
    "DevnetMessageTransmitter": 0,
    liquidity.FACTORY: 0,
    "MarginReservations": 2,
}
"""Constructors read contracts of earlier waves, which have to be mined; what is not here is in wave 1. Nonces ascend
with waves."""
_DEVNET_IDS = frozenset(chain.chain_id for chain in chains.CHAINS)
_ZERO = Address(bytes(20))


class PlanError(ValueError):
    """A plan that cannot be carried out; the message names the chain and what is wrong."""


class Part(NamedTuple):
    """One transaction: a contract to create, `where` its predicted address; or a call of `method` of the contract
    there."""

    name: str
    contract: str
    arguments: tuple[Any, ...]
    where: Address
    method: str = ""

    @property
    def wave(self) -> int:
        return 2 if self.method else WAVES.get(self.contract, 1)


def plan_of(nodes: Iterable[Node], profile: Profile, instruments: Iterable[AssetId]) -> dict[str, Any]:
    """What is to be deployed: everything, on every chain; `instruments` are the dated ones that trade."""
    return {
        "name": chains.NAME,
        "version": chains.VERSION,
        "salt": chains.SALT,
        "parametersHash": "0x" + default_parameters().hash().hex(),
        "attestors": ["0x" + a.hex() for a in chains.attestor_addresses()],
        "threshold": chains.THRESHOLD,
        "attestorSetId": 1,
        "profile": asdict(profile),
        "instruments": ["0x" + asset.hex() for asset in sorted(instruments)],
        "chains": {
            str(node.chain.chain_id): {
                "name": node.chain.name,
                "rpc": node.url,
                "blockSeconds": node.chain.block_seconds,
                "tokens": chains.TOKENS,
                "feeds": {
                    name: {"answer": answer, "decimals": chains.FEED_DECIMALS}
                    for name, answer in chains.start_answers().items()
                },
                "integrator": chains.LENDER,
                "cctp": {
                    "domain": chains.DOMAINS[node.chain.chain_id],
                    "attester": to_checksum_address(chains.account(chains.CIRCLE).address),
                    "maxFeeBps": chains.MAX_FEE_BPS,
                    "minFinalityThreshold": chains.FINAL,
                },
                "pool": chains.POOL,
            }
            for node in nodes
        },
    }


class ChainPlan:
    """What one chain gets, beginning with the nonce `first`. `domains` are Circle's numbers of all chains shipped to.

    Raises:
        PlanError: devnet parts are planned for a chain that is none of the devnet's, or the tokens do not fit.
    """

    def __init__(
        self, chain_id: int, entry: dict[str, Any], deployer: Address, first: int, domains: Mapping[int, int]
    ) -> None:
        self.chain_id, self.entry, self.deployer, self.first = chain_id, entry, deployer, first
        self.domains = {other: domain for other, domain in domains.items() if other != chain_id}
        self.parts: list[Part] = []
        if self.devnet_parts() and chain_id not in _DEVNET_IDS:
            raise PlanError(f"chain {chain_id} is none of the devnet's: give addresses for {self.devnet_parts()}")

    def devnet_parts(self) -> list[str]:
        """What has no address yet and so would be a devnet contract, which a real chain never gets."""
        tokens, feeds = self.entry["tokens"], self.entry["feeds"]
        missing = [f"tokens.{name}" for name, token in tokens.items() if "address" not in token]
        missing += [f"feeds.{name}" for name, feed in feeds.items() if not isinstance(feed, str)]
        missing += ["cctp"] if "attester" in self.entry.get("cctp", {}) else []
        return missing + [name for name in ("integrator", "pool") if isinstance(self.entry.get(name), dict)]

    def add(self, name: str, contract: str, *arguments: Any) -> Address:
        self.parts.append(Part(name, contract, arguments, self.predicted(len(self.parts))))
        return self.parts[-1].where

    def wave(self, number: int) -> list[Part]:
        return [part for part in self.parts if part.wave == number]

    def predicted(self, index: int) -> Address:
        """CREATE: the last 20 bytes of the hash of (deployer, nonce)."""
        return Address(keccak(rlp.encode([bytes(self.deployer), self.first + index]))[12:])

    def complete(self, deployment: Deployment) -> ChainDeployment:
        """Fill `parts` and say what the chain will hold."""
        tokens, feeds = self._tokens(), self._feeds()
        settlement = [token for token in tokens if token.settlement]
        if len(settlement) != 1:
            raise PlanError(f"chain {self.chain_id}: one token without underlying, the settlement token, is wanted")
        collateral = [token for token in tokens if not token.settlement]
        transmitter = self._transmitter()
        factory = self.add("pool.factory", liquidity.FACTORY) if self._made("pool") else None
        cctp = self._cctp(settlement[0], transmitter)
        at = self._core(deployment, settlement[0], collateral, cctp is not None)
        bridge = self._bridge(at, settlement[0], cctp) if cctp is not None else None
        integrator = self._lender(at) if self._made("integrator") else self._given("integrator")
        pool, swapper = self._given("pool"), self._given("swapper")
        if factory is not None:
            pool, swapper, amount = self._pool(factory, settlement[0], collateral)
        trio = (at.verifier, at.clearing_house, at.vault)
        self.add("reservations", "MarginReservations", *map(to_checksum_address, trio))
        if factory is not None and swapper is not None:
            self.parts.append(Part("pool.liquidity", "DevnetSwapper", (amount,), swapper, "provide"))
        return ChainDeployment(
            chain_id=self.chain_id,
            name=self.entry["name"],
            rpc=self.entry["rpc"],
            block_seconds=float(self.entry["blockSeconds"]),
            deploy_block=0,
            contracts=at,
            settlement=settlement[0],
            collateral=tuple(collateral),
            feeds=feeds,
            integrator=integrator,
            bridge=bridge,
            cctp=cctp,
            pool=pool,
            swapper=swapper,
        )

    def _tokens(self) -> list[Token]:
        return [
            Token(
                symbol,
                address(token["address"])
                if "address" in token
                else self.add(f"tokens.{symbol}", "DevnetToken", symbol, symbol, token["decimals"]),
                token["decimals"],
                token.get("underlying", ""),
            )
            for symbol, token in self.entry["tokens"].items()
        ]

    def _feeds(self) -> dict[str, Address]:
        return {
            name: address(feed)
            if isinstance(feed, str)
            else self.add(f"feeds.{name}", "DevnetFeed", feed["decimals"], _description(name), feed["answer"])
            for name, feed in self.entry["feeds"].items()
        }

    def _transmitter(self) -> Address | None:
        """The devnet's stand-in of Circle's message transmitter, where Circle's is not named."""
        entry = self.entry.get("cctp")
        if entry is None or "attester" not in entry:
            return None
        return self.add("cctp.transmitter", "DevnetMessageTransmitter", entry["domain"], entry["attester"])

    def _cctp(self, settlement: Token, transmitter: Address | None) -> Cctp | None:
        """Circle's contracts where they are, or the devnet's stand-ins. Those are at equal addresses on all chains."""
        entry = self.entry.get("cctp")
        if entry is None:
            return None
        if transmitter is None:
            return Cctp(address(entry["messenger"]), address(entry["transmitter"]), entry["domain"])
        remote = {"messenger": _word(self.predicted(len(self.parts))), "token": _word(settlement.address)}
        messenger = self.add(
            "cctp.messenger",
            "DevnetTokenMessenger",
            to_checksum_address(transmitter),
            to_checksum_address(settlement.address),
            entry["attester"],
            list(self.domains.values()),
            [remote] * len(self.domains),
        )
        return Cctp(messenger, transmitter, entry["domain"])

    def _core(self, deployment: Deployment, settlement: Token, collateral: list[Token], bridged: bool) -> Contracts:
        begin, after = len(self.parts), len(self.parts) + len(CORE)
        others = bridged + self._made("integrator") + self._made("pool")
        named = {name: self.predicted(begin + offset) for offset, name in enumerate(CORE)}
        at = Contracts(**named, reservations=self.predicted(after + others))
        bridge = self.predicted(after) if bridged else _ZERO
        p = deployment.profile
        self.add("history", "NativeBlockHistory")
        self.add(
            "verifier",
            "MarginVerifier",
            {
                "name": deployment.name,
                "version": deployment.version,
                "deploymentId": deployment.deployment_id,
                "epochSeconds": p.epoch_seconds,
                "heartbeat": p.heartbeat_seconds,
                "maxSkew": p.max_skew_seconds,
                "grace": p.grace_seconds,
                "maxPermitSeconds": p.max_permit_seconds,
                "parametersHash": deployment.parameters_hash,
                "attestorSetId": deployment.attestor_set_id,
                "attestors": [to_checksum_address(a) for a in deployment.attestors],
                "threshold": deployment.threshold,
                "history": to_checksum_address(at.history),
                "clearingHouse": to_checksum_address(at.clearing_house),
                "vault": to_checksum_address(at.vault),
                "reservations": to_checksum_address(at.reservations),
            },
        )
        self.add(
            "clearing_house",
            "ClearingHouse",
            {
                "name": deployment.name,
                "version": deployment.version,
                "verifier": to_checksum_address(at.verifier),
                "vault": to_checksum_address(at.vault),
                "reservations": to_checksum_address(at.reservations),
                "priceBand": p.price_band,
                "feeRate": p.fee_rate,
                "flatFee": p.flat_fee,
                "fundShare": p.fund_share,
                "maxFundingRate": p.max_funding_rate,
                "rampSeconds": p.ramp_seconds,
                "maxAge": p.max_age_seconds,
            },
        )
        self.add(
            "vault",
            "CollateralVault",
            to_checksum_address(at.verifier),
            to_checksum_address(at.clearing_house),
            to_checksum_address(settlement.address),
            [to_checksum_address(t.address) for t in collateral],
            to_checksum_address(at.reservations),
            to_checksum_address(bridge),
        )
        self.add("lens", "MarginLens", to_checksum_address(at.clearing_house), to_checksum_address(at.vault))
        return at

    def _bridge(self, at: Contracts, settlement: Token, cctp: Cctp) -> Address:
        """The adapter, whose counterparts are where it is: one deployer, one nonce, one address."""
        entry = self.entry["cctp"]
        return self.add(
            "bridge",
            "CctpBridge",
            {
                "vault": to_checksum_address(at.vault),
                "token": to_checksum_address(settlement.address),
                "tokenMessenger": to_checksum_address(cctp.messenger),
                "messageTransmitter": to_checksum_address(cctp.transmitter),
                "chainIds": list(self.domains),
                "domains": list(self.domains.values()),
                "remotes": [_word(self.predicted(len(self.parts)))] * len(self.domains),
                "maxFeeBps": entry["maxFeeBps"],
                "minFinalityThreshold": entry["minFinalityThreshold"],
            },
        )

    def _lender(self, at: Contracts) -> Address:
        lender = self.entry["integrator"]
        contracts = (to_checksum_address(at.verifier), to_checksum_address(at.reservations))
        terms = (lender["maxMarkAge"], lender["maxStateAge"], lender["term"])
        return self.add("integrator", "DevnetLender", *contracts, *terms)

    def _pool(self, factory: Address, settlement: Token, collateral: list[Token]) -> tuple[Address, Address, int]:
        """Pool, swapper and liquidity, at the price of the feeds' first answers."""
        entry = self.entry["pool"]
        token = next(t for t in collateral if t.symbol == entry["token"])
        answers = {name: feed["answer"] for name, feed in self.entry["feeds"].items()}
        price = answers[token.underlying] * 10**18 // answers[settlement.symbol]
        pair = (token.address, settlement.address)
        swapper = self.add(
            "pool.swapper",
            "DevnetSwapper",
            *map(to_checksum_address, (factory, *pair)),
            entry["fee"],
            sqrt_price(price, token, settlement),
        )
        pool = liquidity.pool_address(factory, *pair, entry["fee"])
        return pool, swapper, liquidity.liquidity(entry["depth"], price, token, settlement)

    def _made(self, name: str) -> bool:
        return isinstance(self.entry.get(name), dict)

    def _given(self, name: str) -> Address | None:
        return address(self.entry[name]) if isinstance(self.entry.get(name), str) else None


def _description(feed: str) -> str:
    """As Chainlink describes its feeds; a vol is in no currency."""
    return feed if feed.endswith(VOL) else f"{feed} / USD"


def _word(where: Address) -> bytes:
    """As Circle's contracts write addresses."""
    return bytes(12) + where
