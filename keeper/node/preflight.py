"""What is wrong with a node's configuration, found before anything is begun.

A node that names a chain it does not follow, waits for peers that sign nothing, or has no key to its keystore would
run and do less than its operator believes. All faults are found at once, from the files alone; providers and peers are
asked only where that is wanted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from eth_account import Account

from keeper.chain.identity import Provider, WrongChain
from keeper.chain.rpc import RpcError, RpcUnavailable, provider_name
from keeper.margin.listing import Listing
from keeper.margin.model import MarginModel, NotConvex, require_convex
from keeper.margin.models import model_for
from keeper.margin.parameter_file import default_parameters, load_parameters
from keeper.margin.parameters import MarginParameters, ParameterError
from keeper.state.deployment import Deployment
from keeper.state.ids import Address, address

from .config import ConfigError, NodeConfig


@dataclass
class Findings:
    """`faults` refuse the configuration, `warnings` do not."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def inspect(config: NodeConfig, deployment: Deployment) -> Findings:
    """Everything that files and keys can tell."""
    found = Findings()
    found.faults += _chain_faults(config, deployment)
    own = _keys(config, deployment, found)
    _peers(config, deployment, own, found)
    found.faults += _token_faults(config, deployment)
    try:
        parameters = parameters_of(config, deployment)
        model_of(config, parameters, Listing.of(deployment))
    except ConfigError as error:
        found.faults.append(str(error))
    found.faults += _folder_faults(config.state_dir)
    return found


async def ask(config: NodeConfig, deployment: Deployment) -> Findings:
    """Who the providers say they are, and which peers answer. What does not answer is a warning: it may come back."""
    found = Findings()
    for chain_id in deployment.chains:
        section = config.chain(chain_id)
        provider = Provider(deployment, chain_id, section.rpc, section.timeout_seconds)
        try:
            await provider.identify()
        except WrongChain as error:
            found.faults.append(str(error))
        except (RpcUnavailable, RpcError) as error:
            found.warnings.append(f"chain {chain_id} is not reachable: {error}")
        finally:
            await provider.aclose()
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
        for peer, url in config.peer_urls().items():
            try:
                (await client.get(url + "/health")).raise_for_status()
            except httpx.HTTPError as error:
                reason = type(error).__name__
                found.warnings.append(f"peer 0x{peer.hex()} is not reachable at {provider_name(url)}: {reason}")
    return found


def parameters_of(config: NodeConfig, deployment: Deployment) -> MarginParameters:
    """The margin parameters, which must be the deployment's. Raises ConfigError."""
    try:
        parameters = default_parameters() if config.parameters is None else load_parameters(config.parameters)
    except ParameterError as error:
        raise ConfigError(f"parameters: {error}") from None
    if parameters.hash() != deployment.parameters_hash:
        raise ConfigError(
            f"margin parameters hash to 0x{parameters.hash().hex()}, "
            f"the deployment was made for 0x{deployment.parameters_hash.hex()}: "
            "name the deployment's file in `parameters`"
        )
    return parameters


def model_of(config: NodeConfig, parameters: MarginParameters, listing: Listing) -> MarginModel:
    """The deployment's model, which must be convex where this node signs by it. Raises ConfigError."""
    try:
        model = model_for(parameters, listing)
        if config.attest is not None:
            require_convex(model)
    except ParameterError as error:
        raise ConfigError(f"parameters: {error}") from None
    except NotConvex as error:
        raise ConfigError(f"[attest]: {error}; without this role the node observes and serves") from None
    return model


def _chain_faults(config: NodeConfig, deployment: Deployment) -> Iterator[str]:
    known = ", ".join(map(str, deployment.chains))
    for chain_id in config.chains:
        if chain_id not in deployment.chains:
            yield f"[chains.{chain_id}]: {deployment.name} has no such chain but {known}: remove the section"
    taken: dict[str, int] = {}
    for chain_id, chain in deployment.chains.items():
        given = config.chain(chain_id).rpc
        url = chain.rpc if given is None else given
        where = f"[chains.{chain_id}] rpc"
        if fault := _url_fault(url):
            yield f"{where}: {fault}"
        elif (other := taken.setdefault(_endpoint(url), chain_id)) != chain_id:
            yield f"{where}: {provider_name(url)} is the provider of chain {other} already: a provider serves one chain"


def _keys(config: NodeConfig, deployment: Deployment, found: Findings) -> Address | None:
    """Loads every key; returns the attestor's own address."""
    roles: dict[Address, str] = {}
    own = None
    for role, section in config.sections().items():
        try:
            who = address(Account.from_key(section.key.load()).address)
        except ConfigError as error:
            found.faults.append(f"[{role}.key] {error}")
            continue
        if (other := roles.setdefault(who, role)) != role:
            found.faults.append(
                f"[{role}.key] is the key of [{other}] too, 0x{who.hex()}: give each role a key of its own"
            )
        if role == "attest":
            own = who
            if who not in deployment.attestors:
                found.faults.append(
                    f"[attest.key] 0x{who.hex()} is none of the attestors of {deployment.name}, {_listed(deployment)}"
                )
    if config.relay is not None and (fault := _url_fault(config.relay.iris)):
        found.faults.append(f"[relay] iris: {fault}")
    return own


def _peers(config: NodeConfig, deployment: Deployment, own: Address | None, found: Findings) -> None:
    taken: dict[str, Address] = {}
    for peer, url in config.peer_urls().items():
        where = f"[peers] 0x{peer.hex()}"
        if peer not in deployment.attestors:
            found.faults.append(f"{where} is none of the attestors of {deployment.name}, {_listed(deployment)}")
        if fault := _url_fault(url):
            found.faults.append(f"{where}: {fault}")
        elif (other := taken.setdefault(_endpoint(url), peer)) != peer:
            found.faults.append(f"{where}: {provider_name(url)} is the URL of 0x{other.hex()} too")
    known = ({*config.peer_urls()} | ({own} if own else set())) & {*deployment.attestors}
    missing = ", ".join("0x" + member.hex() for member in deployment.attestors if member not in known)
    if len(known) < deployment.threshold:
        with_own = ", with this node," if own in known else ""
        found.faults.append(
            f"[peers] names {len(known)}{with_own} of {len(deployment.attestors)} attestors, fewer than the threshold "
            f"of {deployment.threshold}: add {missing}"
        )
    elif missing:
        found.warnings.append(f"[peers] lacks {missing}: what only they know is not heard of")


def _token_faults(config: NodeConfig, deployment: Deployment) -> Iterator[str]:
    known = sorted({token.symbol for chain in deployment.chains.values() for token in chain.collateral})
    for symbol in config.liquidate.keep if config.liquidate is not None else ():
        if symbol not in known:
            yield f"[liquidate] keep: no collateral token is called {symbol!r}, there are {', '.join(known)}"


def _folder_faults(folder: Path) -> Iterator[str]:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        yield f"state_dir {folder}: {existing} is no folder"
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield f"state_dir {folder}: {existing} is not writable for this user"


def _url_fault(url: str) -> str | None:
    try:
        found = urlsplit(url)
        valid = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        valid = False
    return None if valid else f"{provider_name(url)}: wanted a URL as http://HOST:PORT"


def _endpoint(url: str) -> str:
    """What two spellings of one URL have in common."""
    found = httpx.URL(url.rstrip("/"))
    return f"{found.copy_with(username=None, password=None)}".rstrip("/")


def _listed(deployment: Deployment) -> str:
    return ", ".join("0x" + member.hex() for member in deployment.attestors)
