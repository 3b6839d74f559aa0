"""The crash in small: two dozen accounts, half a minute; and the independent check, on the real chains' logs."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keeper.chain.abi import topic
from keeper.chain.rpc import Rpc
from keeper.devnet.launch import Devnet, down
from keeper.devnet.layout import read_nodes

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
ACCOUNTS = 24
STEPS = ["arrival", "trading", "before", "fall", "recovery", "quiet", "outcome", "check"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any], str]]:
    """A run that is left up: its folder, its report, and what it printed."""
    folder = tmp_path_factory.mktemp("crash")
    report = folder / "crash.json"
    options = ("--accounts", str(ACCOUNTS), "--seconds", "30", "--json", str(report), "--keep")
    try:
        process = subprocess.run(
            [sys.executable, "-m", "keeper", "devnet", "crash", "--state", str(folder / "devnet"), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
            timeout=380,
            check=False,
        )
        assert process.returncode == 0, process.stdout
        yield folder / "devnet", json.loads(report.read_text()), process.stdout
    finally:
        down(folder / "devnet")


def test_every_account_ends_healthy_closed_or_absorbed_CM42_CM43(told: tuple[Path, dict[str, Any], str]) -> None:
    """CM-20, CM-30, CM-31, CM-42, CM-43, CM-50 on running chains."""
    _, report, output = told
    assert report["ok"] is True
    assert [step["name"] for step in report["steps"]] == STEPS
    assert report["population"]["accounts"] == ACCOUNTS
    assert report["trading"]["instruments"] == 20
    outcome = report["accounts"]["outcome"]
    assert sum(outcome.values()) == ACCOUNTS
    assert {name.split()[0] for name in outcome} <= {"untouched", "restored", "closed"}
    closed = {name: count for name, count in outcome.items() if name != "untouched"}
    assert sum(closed.values()) > 0
    assert report["accounts"]["byRole"]["hedged"] == {"untouched": ACCOUNTS // 10}
    latency = report["latency"]["all"]
    assert latency["blocks"]["count"] > 0
    assert 0 <= latency["blocks"]["p50"] <= latency["blocks"]["p99"]
    for when in ("before", "after"):
        assert 0 < report["netting"][when]["exposure"] < 1
    assert report["settlement"]["settled"] > 0
    assert report["settlement"]["cycles"] > 0
    check = report["check"]
    assert check["ok"] is True
    assert sum(chain["Liquidated"] + chain["Deleveraged"] for chain in check["chains"].values()) > 0
    for chain in check["chains"].values():
        assert chain["CM-42"] == chain["Liquidated"] + chain["Deleveraged"]
        assert chain["blocks"] > 30
        assert chain["views"] > 0
    assert f"{len(STEPS)} of {len(STEPS)} steps held" in output


def test_left_running_it_is_ended_by_down(told: tuple[Path, dict[str, Any], str]) -> None:
    folder, _, _ = told
    assert {"keeper", "attestor-1", "circle"} <= set(read_nodes(folder))


@pytest.mark.parametrize(
    ("event", "rule"),
    [("CashSet", "CM-30"), ("PositionSet", "CM-31"), ("Liquidated", "CM-42"), ("SettlementHeldSet", "CM-30")],
)
def test_a_changed_log_of_a_real_chain_is_found(told: tuple[Path, dict[str, Any], str], event: str, rule: str) -> None:
    """CM-30, CM-31, CM-42: the last log of an event says one unit more than it did."""
    folder, report, _ = told
    chain_id = max(report["check"]["chains"], key=lambda each: report["check"]["chains"][each]["Liquidated"])
    devnet = Devnet.load(folder)
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        checker = importlib.import_module("check_chains")
        found = asyncio.run(_doctored(checker, devnet, int(chain_id), event))
    finally:
        sys.path.remove(str(ROOT / "scripts"))
        devnet.close()
    assert found.rule == rule
    assert found.block > 0


async def _doctored(checker: Any, devnet: Devnet, chain_id: int, event: str) -> Any:
    """The violation that is found in a chain's logs, the last `event` of them changed."""
    chain = devnet.deployment.chains[chain_id]
    rpc = Rpc(chain.rpc, timeout=60.0)
    try:
        last = int(await rpc.call("eth_blockNumber"), 16)
        logs = await checker.read_logs(rpc, chain, last)
    finally:
        await rpc.aclose()
    wanted = "0x" + topic(event).hex()
    changed = next(log for log in reversed(logs) if log["topics"][0] == wanted)
    data = bytes.fromhex(changed["data"][2:])
    value = int.from_bytes(data[:32], "big", signed=True) + 1
    changed["data"] = "0x" + (value.to_bytes(32, "big", signed=True) + data[32:]).hex()
    with pytest.raises(checker.Violation) as found:
        deque(checker.replayed(chain, devnet.deployment.profile, logs, last), maxlen=0)
    assert found.value.block == int(changed["blockNumber"], 16)
    return found.value
