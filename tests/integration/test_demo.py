"""The main job as a person runs it: the whole story, a story that fails, and a story that is interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keeper.devnet.launch import down
from keeper.devnet.layout import RecordedNode, read_nodes
from keeper.devnet.processes import start_time

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(420)]

KEPT = ["attestor-1", "attestor-2", "attestor-3", "attestor-4", "circle", "keeper"]
STEPS = ["0", "a", "b", "b2", "c", "d", "d2", "e", "f", "f2", "g", "h", "i", "j"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "devnet"
    down(tmp_path / "devnet")


def _demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "keeper", "demo", "--state", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
    )


def _nodes(folder: Path, process: subprocess.Popen[str]) -> dict[str, RecordedNode]:
    """Wait until all run."""
    for _ in range(1200):
        if len(nodes := read_nodes(folder)) == len(KEPT):
            return nodes
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no nodes within two minutes")


def _alive(folder: Path) -> list[int]:
    """Processes whose command line or working directory is of this devnet."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(int(entry.name))
    return found


def _step(report: dict[str, Any], name: str) -> dict[str, Any]:
    figures: dict[str, Any] = next(step for step in report["steps"] if step["name"] == name)["figures"]
    return figures


def test_the_whole_story_holds(folder: Path, tmp_path: Path) -> None:
    """CM-11, CM-15, CM-20, CM-30, CM-31, CM-42, CM-50 on running chains; an independent reader checks every step."""
    report = tmp_path / "demo.json"
    process = _demo(folder, "--json", str(report), "--keep")
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, output + errors
    told = json.loads(report.read_text())
    assert told["ok"] is True
    assert [step["name"] for step in told["steps"]] == STEPS
    assert all(step["ok"] for step in told["steps"])
    assert _step(told, "b")["both"] == 0
    assert _step(told, "b")["long_alone"] == _step(told, "b")["short_alone"] > 0
    assert _step(told, "c")["refusal"]["code"] == "insufficient_free_margin"
    assert (_step(told, "d")["rounds"], _step(told, "d")["both"]) == (10, 0)
    assert {"postBatch", "withdraw", "match", "reserve", "liquidate", "prove"} <= set(told["gas"])
    assert _step(told, "f2")["claimed"] == 500
    assert _step(told, "h")["call"] == pytest.approx(_step(told, "h")["settlement_price"] - 2_500)
    assert _step(told, "i")["cycles"] >= 1
    assert f"{len(STEPS)} of {len(STEPS)} steps held" in output
    assert sorted(read_nodes(folder)) == KEPT
    assert len(_alive(folder)) == len(KEPT) + 3  # kept, with three chains
    assert sorted(down(folder)) == sorted([*KEPT, "chain A", "chain B", "chain C"])
    assert _alive(folder) == []


def test_a_step_that_fails_says_what_was_expected_and_found(folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "demo.json"
    process = _demo(folder, "--json", str(report))
    assert process.stdout is not None
    next(line for line in process.stdout if "are up" in line)
    os.kill(read_nodes(folder)["keeper"].pid, signal.SIGKILL)  # nothing is posted or answered any more
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "failed" in output
    assert re.search(r"expected .+; found .+", output), output
    assert f"logs: {folder}" in output
    assert errors.startswith("keeper: expected ")
    assert len(errors.splitlines()) == 1
    told = json.loads(report.read_text())
    assert told["ok"] is False
    assert told["steps"][-1]["error"].startswith("expected ")
    assert _alive(folder) == []


def test_interrupted_it_ends_everything_it_started(folder: Path) -> None:
    process = _demo(folder)
    nodes = _nodes(folder, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert all(start_time(node.pid) != node.started for node in nodes.values())
    assert _alive(folder) == []
