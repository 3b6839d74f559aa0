"""Requests per epoch and chain, counted by a proxy before each chain, with 10 and with 1,000 real accounts.

Run: python tests/benchmarks/requests_per_epoch.py [--accounts 10,1000] [--epochs 20]

A whole cluster runs on a devnet: four attestors, and a keeper that relays and liquidates. Prints, for each number of
accounts, HTTP requests per chain, epoch and node, and the answered bytes; the ratio of the last to the first must stay
near one.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from keeper.chain.abi import encode
from keeper.devnet.chains import DEPLOYER, account
from keeper.devnet.cluster import Cluster
from keeper.devnet.launch import Devnet
from keeper.state.ids import account_id
from keeper.testing.proxy import CountingProxy

_USDC = 10**6
_DEPOSIT = 100 * _USDC
_CHUNK = 100
_GAS = 250_000


async def open_accounts(devnet: Devnet, begin: int, end: int) -> None:
    """Give every account from `begin` to `end` a deposit of its own on every chain: real accounts of made-up owners."""
    for chain in devnet.deployment.chains.values():
        token, vault = chain.settlement.address, chain.contracts.vault
        sender = "0x" + account(DEPLOYER).address.hex()
        total = (end - begin) * _DEPOSIT
        setup = [
            (token, encode("DevnetToken", "mint", [account(DEPLOYER).address, total])),
            (token, encode("DevnetToken", "approve", [vault, total])),
        ]
        owners = (account_id(n.to_bytes(20, "big")) for n in range(2**32 + begin, 2**32 + end))
        deposits = [(vault, encode("CollateralVault", "deposit", [a, token, _DEPOSIT, []])) for a in owners]
        async with httpx.AsyncClient(timeout=60.0, trust_env=False) as client:
            for sent in (setup, *(deposits[i : i + _CHUNK] for i in range(0, len(deposits), _CHUNK))):
                # Stated, or the node would estimate each against a state in which those before it were not yet mined.
                call = {"from": sender, "gas": hex(_GAS)}
                body = [
                    _rpc(i, "eth_sendTransaction", [call | {"to": "0x" + to.hex(), "data": "0x" + data.hex()}])
                    for i, (to, data) in enumerate(sent)
                ]
                answers = (await client.post(chain.rpc, json=body)).json()
                if refused := [answer["error"] for answer in answers if "error" in answer]:
                    raise SystemExit(f"chain {chain.name} refuses {len(refused)} transactions: {refused[0]}")
                await _mined(client, chain.rpc, answers[-1]["result"])


async def _mined(client: httpx.AsyncClient, rpc: str, transaction: str) -> None:
    for _ in range(600):
        answer = (await client.post(rpc, json=_rpc(0, "eth_getTransactionReceipt", [transaction]))).json()
        if answer["result"] is not None:
            return
        await asyncio.sleep(0.1)
    raise SystemExit(f"{transaction} was not mined within a minute")


def _rpc(number: int, method: str, params: list[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


async def until_known(url: str, accounts: int) -> int:
    """Wait until the newest batch has a leaf for every account on every chain; its epoch."""
    async with httpx.AsyncClient(timeout=10.0, trust_env=False) as client:
        for _ in range(600):
            batch = (await client.get(url + "/v1/status")).json()["batch"]
            if batch is not None and batch["accounts"] >= 3 * accounts:
                return int(batch["epoch"])
            await asyncio.sleep(0.2)
    raise SystemExit(f"no batch with {accounts} accounts within two minutes")


async def measure(devnet: Devnet, sizes: list[int], epochs: int) -> list[dict[str, Any]]:
    rows = []
    async with AsyncExitStack() as running:
        proxies = {
            c: await running.enter_async_context(CountingProxy(chain.rpc).running())
            for c, chain in devnet.deployment.chains.items()
        }
        cluster = await asyncio.to_thread(Cluster.up, devnet.folder, {c: p.url for c, p in proxies.items()})
        running.callback(cluster.down)
        known = 0
        for size in sizes:
            await open_accounts(devnet, known, size)
            known = size
            began = await until_known(cluster.keeper.url, size)
            before = {c: (p.requests, p.bytes_answered) for c, p in proxies.items()}
            seconds = epochs * devnet.deployment.profile.epoch_seconds
            await asyncio.sleep(seconds)
            nodes = len(cluster.nodes)
            for c, proxy in proxies.items():
                requests = proxy.requests - before[c][0]
                rows.append(
                    {
                        "accounts": size,
                        "chain": devnet.deployment.chains[c].name,
                        "requests_per_epoch_and_node": requests / epochs / nodes,
                        "bytes_per_epoch_and_node": (proxy.bytes_answered - before[c][1]) / epochs / nodes,
                        "from_epoch": began,
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", default="10,1000")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    sizes = [int(size) for size in options.accounts.split(",")]
    with tempfile.TemporaryDirectory() as folder, Devnet.up(Path(folder), report=print) as devnet:
        rows = asyncio.run(measure(devnet, sizes, options.epochs))
    print(f"{'accounts':>8}  chain  requests/epoch/node  bytes/epoch/node")
    for row in rows:
        print(
            f"{row['accounts']:>8}  {row['chain']:<5}  {row['requests_per_epoch_and_node']:>19.2f}"
            f"  {row['bytes_per_epoch_and_node']:>16.0f}"
        )
    first, last = rows[: len(rows) // len(sizes)], rows[-len(rows) // len(sizes) :]
    for before, after in zip(first, last, strict=True):
        ratio = after["requests_per_epoch_and_node"] / before["requests_per_epoch_and_node"]
        print(
            f"chain {before['chain']}: {ratio:.2f} times the requests with {sizes[-1] // sizes[0]} times the accounts"
        )


if __name__ == "__main__":
    main()
