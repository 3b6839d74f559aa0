"""The nodes of a devnet: four attestors, a keeper that relays and liquidates, and further liquidators where wanted.

Each is a process of its own.

Every node has its own key, journal, log, and connections to the chains. Beside them runs what stands in for Circle, the
attester of shipments.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from keeper.state.ids import Address

from .chains import ATTESTORS, LIQUIDATORS, RELAYER, account
from .launch import deployments_file
from .layout import NODES, RecordedNode, write_nodes
from .processes import DevnetError, start_time

_START_SECONDS = 120.0
_END_SECONDS = 5.0

KEEPER = "keeper"
"""The node that relays, liquidates and serves people."""
CIRCLE = "circle"
"""The attester of shipments, no node."""


@dataclass
class NodeProcess:
    """One node, run by `python -m` with `arguments`, which name the file `config`.

    `process` is None while it does not run.
    """

    name: str
    arguments: tuple[str, ...]
    config: Path
    log: Path
    url: str
    address: Address | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; its log is appended to."""
        with self.log.open("ab") as output:
            # A session of its own: Ctrl-C reaches the one who started us, who then ends the nodes in order.
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=os.environ | {"ETH_HASH_BACKEND": "pysha3"},
            )

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the process, by SIGKILL where it does not end by itself."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_END_SECONDS)
        self.process = None


@dataclass
class Cluster:
    """The nodes on one devnet."""

    folder: Path
    circle: NodeProcess
    nodes: dict[str, NodeProcess] = field(default_factory=dict)

    @classmethod
    def up(cls, folder: Path, rpcs: Mapping[int, str] | None = None, fee_bps: int = 0, liquidators: int = 1) -> Cluster:
        """Start four attestors, the keeper and Circle's stand-in on the devnet in `folder`; wait until each answers.

        `rpcs` puts other endpoints in the place of the deployments file's, for instance a counting proxy. `fee_bps` is
        what Circle keeps of a shipment, basis points. Of `liquidators`, the first is the keeper, the others are nodes
        of their own, `liquidator-2` and so on, each with its key of `LIQUIDATORS`.

        Raises:
            DevnetError: a node ended or did not answer within two minutes; the message has the end of its log.
        """
        if not 1 <= liquidators <= len(LIQUIDATORS):
            raise DevnetError(f"{liquidators} liquidators: 1 to {len(LIQUIDATORS)} have keys")
        others = {f"liquidator-{n}": account(LIQUIDATORS[n - 1]) for n in range(2, liquidators + 1)}
        *ports, circle_port = free_ports(len(ATTESTORS) + len(others) + 2)
        cluster = cls(folder, circle(folder, circle_port, fee_bps))
        attestors = {f"attestor-{i}": account(i) for i in ATTESTORS}
        urls = {
            name: f"http://127.0.0.1:{port}" for name, port in zip([KEEPER, *attestors, *others], ports, strict=True)
        }
        peers = {"0x" + member.address.hex(): urls[name] for name, member in attestors.items()}
        for name, url in urls.items():
            directory = folder / name
            # New chains, new journals: what was signed for chains that are gone says nothing about these.
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            own = attestors.get(name)
            config = directory / "node.toml"
            if own is not None:
                roles = {"attest": own.key}
            elif name in others:
                roles = {"liquidate": others[name].key}
            else:
                roles = {"relay": account(RELAYER).key, "liquidate": account(LIQUIDATORS[0]).key}
            config.write_text(_config(name, folder, url, roles, peers, rpcs or {}, cluster.circle.url))
            arguments = ("keeper", "run", "--config", str(config))
            signs_as = own.address if own else None
            cluster.nodes[name] = NodeProcess(name, arguments, config, directory / "node.log", url, signs_as)
        try:
            cluster.start(*cluster.nodes, CIRCLE)
        except BaseException:
            cluster.down()
            raise
        return cluster

    def start(self, *names: str) -> None:
        """Start nodes that do not run, side by side, and wait until each answers. Raises DevnetError as `up` does."""
        every = {**self.nodes, CIRCLE: self.circle}
        for name in names:
            every[name].start()
        running = {name: node.process.pid for name, node in every.items() if node.process is not None}
        write_nodes(
            self.folder,
            {name: RecordedNode(every[name].url, pid, start_time(pid) or 0) for name, pid in running.items()},
        )
        for name in names:
            wait_alive(every[name])

    def down(self) -> None:
        """End every node, and Circle's stand-in."""
        every = (*self.nodes.values(), self.circle)
        for node in every:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGTERM)
        for node in every:
            node.end()
        (self.folder / NODES).unlink(missing_ok=True)

    @property
    def keeper(self) -> NodeProcess:
        return self.nodes[KEEPER]

    @property
    def attestors(self) -> list[NodeProcess]:
        """Ascending by address, as the deployment has them."""
        members = [node for node in self.nodes.values() if node.address is not None]
        return sorted(members, key=lambda node: node.address or b"")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


def circle(folder: Path, port: int, fee_bps: int = 0) -> NodeProcess:
    """Circle's stand-in on the devnet in `folder`, not yet started. `fee_bps`: what it keeps of a shipment."""
    directory = folder / CIRCLE
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    config = deployments_file(folder)
    arguments = ("keeper.devnet.attester", "--deployment", str(config), "--port", str(port), "--fee-bps", str(fee_bps))
    return NodeProcess(CIRCLE, arguments, config, directory / "node.log", f"http://127.0.0.1:{port}", None)


def wait_alive(node: NodeProcess) -> None:
    """Wait until a node answers. Raises DevnetError."""
    limit = time.monotonic() + _START_SECONDS
    while time.monotonic() < limit:
        if not node.running:
            break
        try:
            if httpx.get(node.url + "/health", timeout=1.0, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise DevnetError(
        f"node {node.name} does not answer at {node.url}; {node.log} ends with:\n{node.log.read_text()[-2000:]}"
    )


def free_ports(count: int) -> list[int]:
    """Ports that the system has free now; held together, so that no two are the same."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _config(
    name: str,
    folder: Path,
    url: str,
    roles: Mapping[str, bytes],
    peers: Mapping[str, str],
    rpcs: Mapping[int, str],
    iris: str,
) -> str:
    lines = [
        f'name = "{name}"',
        'profile = "devnet"',
        f'deployment = "{deployments_file(folder)}"',
        f'state_dir = "{folder / name}"',
        f"roles = {json.dumps([*roles, 'serve'])}",
        "late_after_seconds = 10",
        "",
        "[http]",
        f"port = {url.rsplit(':', 1)[1]}",
        "",
        "[peers]",
        *(f'"{peer}" = "{peer_url}"' for peer, peer_url in peers.items()),
    ]
    for chain_id, rpc in rpcs.items():
        lines += ["", f"[chains.{chain_id}]", f'rpc = "{rpc}"']
    if "relay" in roles:
        lines += ["", "[relay]", f'iris = "{iris}"']
    for role, key in roles.items():
        lines += ["", f"[{role}.key]", f'private_key = "0x{key.hex()}"']
    return "\n".join(lines) + "\n"
