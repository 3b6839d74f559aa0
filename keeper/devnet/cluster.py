"""The nodes of a devnet: four attestors and a keeper that relays and liquidates, each a process of its own.

Every node has its own key, journal, log, and connections to the chains.
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

from .chains import ATTESTORS, LIQUIDATOR, RELAYER, account
from .launch import deployments_file
from .layout import NODES, RecordedNode, write_nodes
from .processes import DevnetError, start_time

_START_SECONDS = 30.0
_END_SECONDS = 5.0

KEEPER = "keeper"
"""The node that relays, liquidates and serves people."""


@dataclass
class NodeProcess:
    """One node. `process` is None while it does not run."""

    name: str
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
                [sys.executable, "-m", "keeper", "run", "--config", str(self.config)],
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
    nodes: dict[str, NodeProcess] = field(default_factory=dict)

    @classmethod
    def up(cls, folder: Path, rpcs: Mapping[int, str] | None = None) -> Cluster:
        """Start four attestors and the keeper on the devnet in `folder`, and wait until each answers.

        `rpcs` puts other endpoints in the place of the deployments file's, for instance a counting proxy.

        Raises:
            DevnetError: a node ended or did not answer within 30 s; the message has the end of its log.
        """
        cluster = cls(folder)
        ports = _free_ports(len(ATTESTORS) + 1)
        attestors = {f"attestor-{i}": account(i) for i in ATTESTORS}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in zip([KEEPER, *attestors], ports, strict=True)}
        peers = {"0x" + member.address.hex(): urls[name] for name, member in attestors.items()}
        for name, url in urls.items():
            directory = folder / name
            # New chains, new journals: what was signed for chains that are gone says nothing about these.
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            own = attestors.get(name)
            config = directory / "node.toml"
            roles = (
                {"attest": own.key} if own else {"relay": account(RELAYER).key, "liquidate": account(LIQUIDATOR).key}
            )
            config.write_text(_config(name, folder, url, roles, peers, rpcs or {}))
            cluster.nodes[name] = NodeProcess(name, config, directory / "node.log", url, own.address if own else None)
        try:
            cluster.start(*cluster.nodes)
        except BaseException:
            cluster.down()
            raise
        return cluster

    def start(self, *names: str) -> None:
        """Start nodes that do not run, side by side, and wait until each answers. Raises DevnetError as `up` does."""
        for name in names:
            self.nodes[name].start()
        processes = {name: node.process for name, node in self.nodes.items()}
        running = {name: process.pid for name, process in processes.items() if process is not None}
        write_nodes(
            self.folder,
            {name: RecordedNode(self.nodes[name].url, pid, start_time(pid) or 0) for name, pid in running.items()},
        )
        for name in names:
            _wait_alive(self.nodes[name])

    def down(self) -> None:
        """End every node."""
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes.values():
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


def _wait_alive(node: NodeProcess) -> None:
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


def _free_ports(count: int) -> list[int]:
    """Ports that the system has free now; held together, so that no two are the same."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _config(
    name: str, folder: Path, url: str, roles: Mapping[str, bytes], peers: Mapping[str, str], rpcs: Mapping[int, str]
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
    for role, key in roles.items():
        lines += ["", f"[{role}.key]", f'private_key = "0x{key.hex()}"']
    return "\n".join(lines) + "\n"
