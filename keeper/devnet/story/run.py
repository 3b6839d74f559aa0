"""Telling the whole story: devnet up, nodes up, the chapters, summary, everything down."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from keeper.chain.abi import encode
from keeper.devnet.chains import FIRST_USER, account
from keeper.devnet.cluster import Cluster
from keeper.devnet.launch import Devnet
from keeper.devnet.narrator import Narrator

from .batches import bad_batches
from .clearing import claims, dated, expiries, settlement
from .liquidation import liquidations
from .margin import deposits, netting, reservation
from .outage import attestors_fail, sums
from .permits import permits, race
from .stage import A, Stage


async def tell(devnet: Devnet, cluster: Cluster, narrator: Narrator) -> dict[str, Any]:
    """Tell the story on a devnet whose nodes run; the figures over all of it. Raises StepFailed at the first fault."""
    stage = Stage.open(devnet, cluster, narrator)
    try:
        async with narrator.step("0", "Four attestors agree, and every chain holds their batch"):
            epochs = await stage.until(
                "every chain holds a batch", lambda: _held(stage), 60, lambda e: min(e.values()) > 0
            )
            narrator.say(
                "first batches posted: " + ", ".join(f"{name} epoch {e}" for name, e in epochs.items()), **epochs
            )
        for chapter in (
            deposits,
            netting,
            dated,
            reservation,
            race,
            permits,
            bad_batches,
            liquidations,
            claims,
            attestors_fail,
            expiries,
            settlement,
            sums,
        ):
            await chapter(stage)
        return await _summary(stage)
    finally:
        await stage.close()


async def _held(stage: Stage) -> dict[str, int]:
    return {stage.name(chain): await reader.held_epoch() for chain, reader in stage.readers.items()}


async def _summary(stage: Stage) -> dict[str, Any]:
    gas: dict[str, list[int]] = {}
    for wallet in stage.wallets.values():
        for kind, used in wallet.gas:
            gas.setdefault(kind, []).append(used)
    status = await stage.get("/v1/status")
    relayed = [posting["gasUsed"] for posting in status["relayer"].values() if posting["gasUsed"]]
    gas["postBatch"] = relayed
    taken = await stage.get("/v1/liquidations")
    gas["liquidate"] = [entry["gasUsed"] for entry in taken["taken"]]
    gas["check (a view, as a transaction)"] = [await _check_gas(stage)]
    return {
        "gas": {kind: int(median(values)) for kind, values in sorted(gas.items()) if values},
        "latencies": status["latencies"],
    }


async def _check_gas(stage: Stage) -> int:
    """What checking a leaf would cost as a transaction of its own, base fee of a transaction included."""
    owner = stage["owner"]
    proof = await owner.client.proof(chain=A)
    arguments = [*proof.arguments, 3_600, 3_600]
    call = {
        "from": "0x" + owner.address.hex(),
        "to": "0x" + stage.deployment.chains[A].contracts.verifier.hex(),
        "data": "0x" + encode("MarginVerifier", "check", arguments).hex(),
    }
    return int(await stage.rpcs[A].call("eth_estimateGas", [call, "latest"]), 16)


def show_summary(console: Console, narrator: Narrator, figures: Mapping[str, Any]) -> None:
    """Gas and latencies as tables, and the verdict."""
    gas = Table("transaction", "gas", title="Gas (median)", box=None, title_justify="left")
    for kind, used in figures["gas"].items():
        gas.add_row(kind, f"{used:,}")
    latency = Table("stage", "p50 s", "p99 s", "count", title="Latency", box=None, title_justify="left")
    for stage, values in figures["latencies"].items():
        latency.add_row(stage, f"{values['p50']:.2f}", f"{values['p99']:.2f}", str(values["count"]))
    console.print()
    console.print(gas)
    console.print()
    console.print(latency)
    held = sum(step.ok for step in narrator.steps)
    console.print(
        f"\n[bold green]{held} of {len(narrator.steps)} steps held[/] in {narrator.seconds:.0f} s", highlight=False
    )


def show_addresses(console: Console, devnet: Devnet, cluster: Cluster) -> None:
    """What one needs to go on by hand: URLs, addresses, devnet keys, and a line to try."""
    console.print("\n[bold]Left running[/] until `keeper devnet down`; try `keeper status`, `keeper account ADDRESS`.")
    for node in (*cluster.nodes.values(), cluster.circle):
        console.print(f"  {node.name}: {node.url}", highlight=False)
        console.print(f"    {node.log}", highlight=False, soft_wrap=True)
    for chain in devnet.deployment.chains.values():
        console.print(f"  chain {chain.name} ({chain.chain_id}): {chain.rpc}", highlight=False)
    first = next(iter(devnet.deployment.chains.values()))
    for name in ("verifier", "clearing_house", "vault", "reservations", "lens"):
        console.print(f"  {name}: 0x{getattr(first.contracts, name).hex()} on every chain", highlight=False)
    for index, name in enumerate(Stage.NAMES):
        member = account(FIRST_USER + index)
        console.print(f"  {name}: 0x{member.address.hex()}", highlight=False)
        console.print(f"    key 0x{member.key.hex()}", highlight=False)
    owner = account(FIRST_USER)
    console.print(
        f"\n  try: node_modules/.bin/cast call 0x{first.contracts.verifier.hex()} "
        f"'isHealthy(bytes32,uint256,uint256)(bool)' 0x{owner.address.hex()}{'0' * 24} 3600 3600 --rpc-url {first.rpc}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"  deployments: {devnet.deployments_file}", highlight=False, soft_wrap=True)
