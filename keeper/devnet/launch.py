"""Start, deploy to, and play with a devnet: three anvil chains that a folder remembers.

Everything here is synchronous and short, so that commands, tests and the demo share it; from a coroutine, call it
through `asyncio.to_thread`.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from keeper.chain.uniswap import sqrt_price
from keeper.state.deployment import PERPETUAL, ChainDeployment, Deployment, Profile
from keeper.state.ids import AssetId

from . import chains
from .chains import CHAINS, DevnetChain, account
from .deployer import deploy
from .layout import end_nodes
from .plan import plan_of
from .processes import DevnetError, Node, start, states_folder

FOLDER = Path(".devnet")
_CALL_SECONDS = 10.0
_RECEIPT_SECONDS = 30.0
_SWAP_GAS = 500_000

Report = Callable[[str], None]
"""Told what is being done, one line at a time."""


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """`number` and `time` of the head; None where the chain does not answer."""

    chain: DevnetChain
    state: str
    url: str
    pid: int
    number: int | None
    time: int | None


class Devnet:
    """A running devnet. `folder` holds its processes, logs and deployments file."""

    def __init__(self, folder: Path, nodes: Mapping[int, Node], deployment: Deployment) -> None:
        self.folder = folder
        self.nodes = dict(nodes)
        self.deployment = deployment
        self._ids = itertools.count(1)
        self._http = httpx.Client(timeout=_CALL_SECONDS, trust_env=False)

    @classmethod
    def up(
        cls,
        folder: Path = FOLDER,
        profile: Profile | None = None,
        report: Report = _silent,
        instruments: Sequence[AssetId] | None = None,
    ) -> Devnet:
        """Start the chains, deploy everything, write the deployments file. What fails, or is interrupted, is undone.

        `instruments` are the futures and options that trade; left out, a series that expires in a week.

        Raises:
            DevnetError: a devnet is up in this folder already, a chain does not start, or the deployment fails.
        """
        folder = folder.resolve()
        with _locked(folder):
            if any(node.state != "gone" for node in _read_nodes(folder)):
                raise DevnetError(f"a devnet is up in {folder}: keeper devnet down ends it")
            _forget(folder)
            nodes: list[Node] = []
            try:
                for chain in CHAINS:
                    nodes.append(start(chain, folder))
                    _write_nodes(folder, nodes)
                    pace = f"a block every {chain.block_seconds:g} s"
                    report(f"chain {chain.name} ({chain.chain_id}), {pace}: {nodes[-1].url}")
                report(
                    f"old states, of {chains.STATES_SECONDS} s, take at most {chains.disk_bytes() / 1e9:.1f} GB of disk"
                )
                report("deploying to the three chains")
                began = time.monotonic()
                listed = chains.series(int(time.time())) if instruments is None else instruments
                deployment = deploy(plan_of(nodes, profile or Profile(), listed), deployments_file(folder))
                report(f"deployed in {time.monotonic() - began:.1f} s: {os.path.relpath(deployments_file(folder))}")
            except BaseException:
                for node in nodes:
                    node.end()
                _forget(folder)
                raise
        return cls(folder, {n.chain.chain_id: n for n in nodes}, deployment)

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Devnet:
        """The devnet that is up in `folder`.

        Raises:
            DevnetError: there is none, or one of its chains is gone.
            DeploymentError: its deployments file is unusable.
        """
        folder = folder.resolve()
        nodes = _read_nodes(folder)
        if not nodes:
            raise DevnetError(f"no devnet in {folder}: keeper devnet up starts one")
        gone = [node.chain.name for node in nodes if node.state == "gone"]
        if gone:
            raise DevnetError(f"chain {', '.join(gone)} of the devnet in {folder} is gone: keeper devnet down, then up")
        return cls(folder, {n.chain.chain_id: n for n in nodes}, Deployment.load(deployments_file(folder)))

    def down(self) -> None:
        """End the chains. Harmless where they are gone."""
        self.close()
        down(self.folder)

    def close(self) -> None:
        """Close our connections, leave the chains running."""
        self._http.close()

    @property
    def deployments_file(self) -> Path:
        return deployments_file(self.folder)

    def __enter__(self) -> Devnet:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # --- looking -------------------------------------------------------------------------------------------------

    def call(self, chain_id: int, method: str, params: list[Any] | None = None) -> Any:
        """One JSON-RPC request.

        Raises:
            DevnetError: no answer within 10 s, or an error as answer.
        """
        node = self._node(chain_id)
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params or []}
        try:
            answer = self._http.post(node.url, json=body).json()
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise DevnetError(f"chain {node.chain.name} ({node.state}) does not answer {method}: {error!r}") from error
        if "error" in answer:
            raise DevnetError(f"chain {node.chain.name} refuses {method}: {answer['error'].get('message')}")
        return answer.get("result")

    def status(self) -> list[ChainStatus]:
        """Every chain with its head; a halted chain is not asked."""
        result = []
        for node in self.nodes.values():
            state = node.state
            head = (
                self.call(node.chain.chain_id, "eth_getBlockByNumber", ["latest", False])
                if state == "running"
                else None
            )
            number, at = (int(head["number"], 16), int(head["timestamp"], 16)) if head else (None, None)
            result.append(ChainStatus(node.chain, state, node.url, node.pid, number, at))
        return result

    def price(self, asset: str, chain_id: int | None = None) -> int:
        """The answer of a feed, USD 1e8; of the first chain where none is named."""
        chosen = (
            self.deployment.chains[chain_id] if chain_id is not None else next(iter(self.deployment.chains.values()))
        )
        data = "0x" + keccak(text="latestRoundData()")[:4].hex()
        result = self.call(chosen.chain_id, "eth_call", [{"to": _hex(_feed(chosen, asset)), "data": data}, "latest"])
        return int.from_bytes(bytes.fromhex(result[2:])[32:64], "big", signed=True)

    # --- acting --------------------------------------------------------------------------------------------------

    def halt(self, chain_id: int) -> None:
        self._node(chain_id).halt()

    def resume(self, chain_id: int) -> None:
        self._node(chain_id).resume()

    def reorg(self, chain_id: int, depth: int) -> None:
        """Replace the newest `depth` blocks by empty ones. Their transactions are dropped."""
        self.call(chain_id, "anvil_reorg", [depth, []])
        # anvil's clock goes back to the last block that stays, and on from there: the chain would be late for ever.
        self.call(chain_id, "evm_setTime", [int(time.time())])

    def set_price(self, asset: str, price: int, chain_ids: list[int] | None = None) -> None:
        """Set a feed on every chain, or on those named, to `price` (USD 1e8), and wait until it is mined."""
        self._mined(self._set({asset: price}, chain_ids))

    def shock(self, asset: str, percent: float) -> tuple[int, int]:
        """Move the price of `asset` on all chains by `percent` of what it is; returns it before and after, USD 1e8.

        The price of its perpetual moves by as much, and arbitrage moves the pools along.
        """
        before = self.price(asset)
        after = round(before * (1 + percent / 100))
        if after <= 0:
            raise DevnetError(f"a move of {percent:g} % leaves {asset} at {after / 1e8:g} USD: prices stay above zero")
        answers = {asset: after}
        if all(asset + PERPETUAL in chain.feeds for chain in self.deployment.chains.values()):
            answers[asset + PERPETUAL] = round(self.price(asset + PERPETUAL) * (1 + percent / 100))
        self.move(answers)
        return before, after

    def move(self, answers: Mapping[str, int]) -> None:
        """Set feeds by name on every chain, let arbitrage move the pools along, and wait until all is mined."""
        self._mined(self._set(answers) + self._move_pools(answers))

    def arbitrage(self, chain_ids: list[int] | None = None) -> None:
        """Move every pool, or those of the chains named, to what the chain's feeds say, and wait until it is mined."""
        self._mined(self._move_pools({}, chain_ids))

    def _set(self, answers: Mapping[str, int], chain_ids: list[int] | None = None) -> list[tuple[int, str]]:
        sent = []
        for chain in [self.deployment.chains[c] for c in (chain_ids or self.deployment.chains)]:
            for name, answer in answers.items():
                data = keccak(text="set(int256)")[:4] + encode(["int256"], [answer])
                sent.append((chain.chain_id, self._send(chain.chain_id, _feed(chain, name), data)))
        return sent

    def _move_pools(self, answers: Mapping[str, int], chain_ids: list[int] | None = None) -> list[tuple[int, str]]:
        """`answers` go before what the feeds say now."""
        sent = []
        for chain in [self.deployment.chains[c] for c in (chain_ids or self.deployment.chains)]:
            if chain.swapper is None:
                continue
            token = next(t for t in chain.collateral if t.symbol == chains.POOL["token"])
            index, stable = (
                answers.get(name) or self.price(name, chain.chain_id)
                for name in (token.underlying, chain.settlement.symbol)
            )
            target = sqrt_price(index * 10**18 // stable, token, chain.settlement)
            data = keccak(text="swapTo(uint160)")[:4] + encode(["uint160"], [target])
            # An estimate would be for the newest block, and the first swap of the next one costs more.
            sent.append((chain.chain_id, self._send(chain.chain_id, chain.swapper, data, _SWAP_GAS)))
        return sent

    def mint(self, chain_id: int, symbol: str, to: bytes, amount: int) -> None:
        """Give `amount` (token decimals) of a devnet token to `to`, and wait until it is mined."""
        chain = self.deployment.chains[chain_id]
        token = next((t for t in (chain.settlement, *chain.collateral) if t.symbol == symbol), None)
        if token is None:
            raise DevnetError(f"no token {symbol!r} on chain {chain.name}")
        data = keccak(text="mint(address,uint256)")[:4] + encode(["address", "uint256"], [to, amount])
        self._mined([(chain_id, self._send(chain_id, token.address, data))])

    def _send(self, chain_id: int, to: bytes, data: bytes, gas: int | None = None) -> str:
        sender = _hex(account(chains.DEPLOYER).address)  # anvil holds its keys
        body = {"from": sender, "to": _hex(to), "data": _hex(data)} | ({"gas": hex(gas)} if gas else {})
        result: str = self.call(chain_id, "eth_sendTransaction", [body])
        return result

    def _mined(self, sent: list[tuple[int, str]]) -> None:
        limit = time.monotonic() + _RECEIPT_SECONDS
        for chain_id, transaction in sent:
            while (receipt := self.call(chain_id, "eth_getTransactionReceipt", [transaction])) is None:
                if time.monotonic() > limit:
                    raise DevnetError(f"chain {chain_id}: {transaction} is not mined after {_RECEIPT_SECONDS:g} s")
                time.sleep(0.05)
            if int(receipt["status"], 16) != 1:
                raise DevnetError(f"chain {chain_id}: {transaction} reverted")

    def _node(self, chain_id: int) -> Node:
        if chain_id not in self.nodes:
            raise DevnetError(f"no chain {chain_id} in the devnet: {', '.join(map(str, self.nodes))}")
        return self.nodes[chain_id]


def deployments_file(folder: Path) -> Path:
    return folder / "deployments.json"


def down(folder: Path = FOLDER) -> list[str]:
    """End the nodes and chains that `folder` remembers, forget its deployments, keep its logs.

    Returns what was ended, by name.
    """
    folder = folder.resolve()
    if not folder.exists():
        return []
    with _locked(folder):
        nodes = end_nodes(folder)
        chains_ = [node for node in _read_nodes(folder) if node.state != "gone"]
        for node in chains_:
            node.end()
        _forget(folder)
    return [*nodes, *(f"chain {node.chain.name}" for node in chains_)]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One command at a time in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_nodes(folder: Path) -> list[Node]:
    try:
        recorded = json.loads(_nodes_file(folder).read_text())
    except FileNotFoundError:
        return []
    by_id = {chain.chain_id: chain for chain in CHAINS}
    return [Node(by_id[n["chainId"]], n["pid"], n["started"], n["port"]) for n in recorded]


def _write_nodes(folder: Path, nodes: list[Node]) -> None:
    recorded = [{"chainId": n.chain.chain_id, "pid": n.pid, "started": n.started, "port": n.port} for n in nodes]
    fresh = _nodes_file(folder).with_suffix(".new")
    fresh.write_text(json.dumps(recorded, indent=2))
    fresh.replace(_nodes_file(folder))


def _forget(folder: Path) -> None:
    for name in (_nodes_file(folder), deployments_file(folder)):
        name.unlink(missing_ok=True)
    for chain in CHAINS:
        shutil.rmtree(states_folder(chain, folder), ignore_errors=True)


def _nodes_file(folder: Path) -> Path:
    return folder / "processes.json"


def _feed(chain: ChainDeployment, asset: str) -> bytes:
    if asset not in chain.feeds:
        raise DevnetError(f"no feed for {asset!r} on chain {chain.name}: {', '.join(sorted(chain.feeds))}")
    return chain.feeds[asset]


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
