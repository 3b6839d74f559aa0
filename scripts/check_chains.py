"""Check a deployment's chains block by block, from nothing but what the chains say.

    .venv/bin/python scripts/check_chains.py .devnet/deployments.json [--from BLOCK] [--json FILE]

Every log since the deployment is replayed. The `…Set` events carry the value after the change, so a state is the last
value of every key. After every block of every chain:

    CM-30   Σ cash of all accounts (fund, fees and clearing included) = settlement token held + claims
    CM-31   Σ sizes of every instrument = 0
    CM-20   Σ balances of every collateral token ≤ what the vault owns of it; held ≤ the vault's settlement token
    CM-50   claims = Σ applied deltas + Σ shipped − Σ arrived, so over all chains
            Σ claims + Σ signed but unapplied deltas = settlement token in flight
    CM-42   in every take-over and deleveraging, what the account loses is what taker and fund gain, to the last unit

and at the last block and a sample of others cash, positions, `settlementHeld`, `claims` and `totalCash` as the
contracts' views give them. Exit code 1 at the first violation, with its chain, block and figures.

Only JSON-RPC, ABIs and identifiers are shared with the nodes; nothing that computes margin, plans or attests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chain_replay import TRANSFER, UNIT, Log, Replay, Violation

from keeper.chain.abi import decode_result, encode
from keeper.chain.rpc import Rpc, RpcError
from keeper.state.deployment import ChainDeployment, Deployment, DeploymentError, Profile
from keeper.state.ids import Address

RANGE = 500
"""Blocks of which logs are asked for at once."""
SAMPLES = 8
"""Blocks of each chain at which views are compared, beside the last, if the provider still has their states."""
AT_ONCE = 200
"""Requests in one HTTP request."""


def check_across(replays: Mapping[int, Replay]) -> dict[str, int]:
    """What must hold over all chains once each was replayed; in flight, unapplied and claims, USD 1e18.

    A cycle's entries of an account sum to zero over chains, and the fund's payments over accounts on one chain: what a
    cycle lacks of that is signed and not applied yet. Raises Violation.
    """
    claims = unapplied = in_flight = 0
    for chain_id, replay in replays.items():
        sent = sum(other.shipped[chain_id] * other.scale for other in replays.values())
        here = replay.arrived * replay.scale
        if here > sent:
            raise Violation("CM-50", replay.chain.name, 0, f"{here} arrived, {sent} were shipped there")
        in_flight += sent - here
        claims += replay.claims
        unapplied -= sum(replay.applied.values())
    if claims + unapplied != in_flight:
        raise Violation("CM-50", "all", 0, f"claims {claims} and unapplied {unapplied}, in flight {in_flight}")
    return {"claims": claims, "unapplied": unapplied, "inFlight": in_flight}


def incomplete(replays: Mapping[int, Replay]) -> list[int]:
    """Cycles that are applied in part: some entries of an account that is no payment of the fund are missing."""
    sums: defaultdict[int, int] = defaultdict(int)
    for replay in replays.values():
        for (cycle, _), delta in replay.applied.items():
            sums[cycle] += delta
    return sorted(cycle for cycle, total in sums.items() if total)


# --- reading a chain -------------------------------------------------------------------------------------------------


def _place(log: Mapping[str, Any]) -> tuple[int, int, int]:
    """Block, transaction and log: a transaction's logs stay together whatever a provider counts logs from."""
    return int(log["blockNumber"], 16), int(log["transactionIndex"], 16), int(log["logIndex"], 16)


async def read_logs(rpc: Rpc, chain: ChainDeployment, last: int) -> list[Log]:
    """Every log of the protocol's contracts, and every transfer of a listed token, up to block `last`, in order."""
    contracts = chain.contracts
    ours = [contracts.verifier, contracts.clearing_house, contracts.vault, contracts.reservations]
    tokens = [chain.settlement.address, *(token.address for token in chain.collateral)]
    filters = (
        {"address": ["0x" + at.hex() for at in ours]},
        {"address": ["0x" + at.hex() for at in tokens], "topics": [TRANSFER]},
    )
    found: list[Log] = []
    for first in range(chain.deploy_block, last + 1, RANGE):
        within = {"fromBlock": hex(first), "toBlock": hex(min(last, first + RANGE - 1))}
        for logs in await rpc.batch([("eth_getLogs", [{**wanted, **within}]) for wanted in filters]):
            found += logs
    return sorted(found, key=_place)


def replayed(
    chain: ChainDeployment, profile: Profile, logs: Sequence[Log], last: int, first: int = 0
) -> Iterator[tuple[int, Replay]]:
    """The replay after each block up to `last`, with its number; checked from block `first` on. Raises Violation."""
    replay = Replay(chain, profile, first_block=first)
    by_block: dict[int, list[Log]] = {}
    for log in logs:
        by_block.setdefault(int(log["blockNumber"], 16), []).append(log)
    for number in range(chain.deploy_block, last + 1):
        replay.block(number, by_block.get(number, ()))
        yield number, replay


async def check_chain(rpc: Rpc, chain: ChainDeployment, profile: Profile, last: int, first: int = 0) -> Replay:
    """Replay one chain up to block `last` and compare views there and at a sample of blocks. Raises Violation."""
    logs = await read_logs(rpc, chain, last)
    first = max(first, chain.deploy_block)
    sampled = {*range(last, first - 1, -max(1, (last - first) // SAMPLES)), last}
    for number, replay in replayed(chain, profile, logs, last, first):
        if number == last or (number in sampled and await has_state(rpc, number)):
            await compare_views(rpc, replay, number)
    return replay


async def has_state(rpc: Rpc, number: int) -> bool:
    """Whether a call at a block is answered: providers keep the states of their newest blocks only."""
    try:
        await rpc.call("eth_getBalance", ["0x" + "00" * 20, hex(number)])
    except RpcError:
        return False
    return True


async def compare_views(rpc: Rpc, replay: Replay, number: int) -> None:
    """Cash, positions, held, claims and total as the contracts' views give them at a block. Raises Violation."""
    chain, house = replay.chain, replay.chain.contracts.clearing_house
    queries: list[tuple[str, str, Address, tuple[Any, ...], int]] = [
        ("ClearingHouse", "totalCash", house, (), replay.total_cash),
        ("ClearingHouse", "claims", house, (), replay.claims),
        ("CollateralVault", "settlementHeld", chain.contracts.vault, (), replay.held),
    ]
    queries += [("ClearingHouse", "cashOf", house, (account,), cash) for account, cash in replay.cash.items()]
    queries += [("ClearingHouse", "positionOf", house, key, size) for key, size in replay.sizes.items()]
    queries += [
        ("CollateralVault", "balanceOf", chain.contracts.vault, key, balance)
        for key, balance in replay.balances.items()
    ]
    for begin in range(0, len(queries), AT_ONCE):
        part = queries[begin : begin + AT_ONCE]
        calls = [
            ("eth_call", [{"to": "0x" + at.hex(), "data": "0x" + encode(contract, name, key).hex()}, hex(number)])
            for contract, name, at, key, _ in part
        ]
        for (contract, name, _, key, wanted), answer in zip(part, await rpc.batch(calls), strict=True):
            value = decode_result(contract, name, bytes.fromhex(answer[2:]))[0]
            if value != wanted:
                asked = ", ".join("0x" + bytes(each).hex() for each in key)
                raise Violation("view", chain.name, number, f"{name}({asked}) is {value}, the logs give {wanted}")
    replay.counts["views"] += len(queries)
    replay.counts["sampled"] += 1


async def check(deployment: Deployment, first: int = 0) -> dict[int, Replay]:
    """Every chain of a deployment. Raises Violation."""
    rpcs = {chain_id: Rpc(chain.rpc, timeout=60.0) for chain_id, chain in deployment.chains.items()}
    try:
        # All heads at one time: what arrives on one chain was sent from another before.
        heads = await asyncio.gather(*(rpc.call("eth_blockNumber") for rpc in rpcs.values()))
        return {
            chain_id: await check_chain(rpc, deployment.chains[chain_id], deployment.profile, int(head, 16), first)
            for (chain_id, rpc), head in zip(rpcs.items(), heads, strict=True)
        }
    finally:
        for rpc in rpcs.values():
            await rpc.aclose()


# --- telling ---------------------------------------------------------------------------------------------------------

COLUMNS = ("blocks", "views", "Matched", "Liquidated", "Deleveraged", "CM-42", "Settled", "SettlementApplied")


def figures(replays: Mapping[int, Replay], across: Mapping[str, int]) -> dict[str, Any]:
    """What was checked, as JSON; amounts are strings of USD 1e18."""
    chains = {}
    for chain_id, replay in replays.items():
        chains[str(chain_id)] = {
            "name": replay.chain.name,
            **{name: replay.counts[name] for name in COLUMNS},
            "accounts": len(replay.cash),
            "instruments": len(replay.size_sums),
            "cash": str(replay.total_cash),
            "held": str(replay.held * replay.scale),
            "claims": str(replay.claims),
            "shipped": str(replay.shipped.total() * replay.scale),
            "arrived": str(replay.arrived * replay.scale),
        }
    cycles = {cycle for replay in replays.values() for cycle, _ in replay.applied}
    return {
        "ok": True,
        "chains": chains,
        "cycles": len(cycles),
        "incomplete": incomplete(replays),
        **{name: str(value) for name, value in across.items()},
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures of every chain, a line each."""
    rows = [["chain", "accounts", *COLUMNS, "cash USD", "held USD", "claims USD"]]
    for chain in found["chains"].values():
        usd = [f"{int(chain[name]) / UNIT:,.2f}" for name in ("cash", "held", "claims")]
        rows.append([chain["name"], *(str(chain[name]) for name in ("accounts", *COLUMNS)), *usd])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check CM-20, 30, 31, 42 and 50 at every block of every chain.")
    parser.add_argument("deployments", type=Path, help="the deployments file")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first block to check (default: all)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args(arguments)
    try:
        replays = asyncio.run(check(Deployment.load(chosen.deployments), chosen.first))
        found = figures(replays, check_across(replays))
    except DeploymentError as error:
        print(f"check_chains: {error}", file=sys.stderr)
        return 2
    except Violation as violation:
        print(f"violated: {violation}", file=sys.stderr)
        found = {"ok": False, "rule": violation.rule, "chain": violation.chain, "block": violation.block}
        found["figures"] = violation.figures
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=2))
    if not found["ok"]:
        return 1
    print(table(found))
    print(f"{found['cycles']} settlement cycles, in flight {int(found['inFlight']) / UNIT:,.2f} USD; every block holds")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
