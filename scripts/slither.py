"""Run slither over the contracts and compare what it finds with the triage: scripts/slither-triage.toml.

Every finding that is not in the triage fails the run, and so does an entry of the triage that no longer matches
anything, so that the list stays true. An entry names a detector, the element it speaks of (`*` for every one), and the
reason it stands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRIAGE = ROOT / "scripts" / "slither-triage.toml"
REPORT = ROOT / "build" / "slither.json"


def analyse() -> list[dict[str, Any]]:
    """Findings in our own contracts; exits with slither's output where slither itself fails."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    path = os.pathsep.join([str(ROOT / "node_modules/.bin"), sysconfig.get_path("scripts"), os.environ["PATH"]])
    command = [str(Path(sysconfig.get_path("scripts")) / "slither"), ".", "--json", str(REPORT)]
    command += ["--foundry-out-directory", "build/slither", "--filter-paths", "node_modules|tests/"]
    command += ["--exclude-informational", "--exclude-optimization", "--fail-none"]
    # A profile of its own: slither cleans before it compiles, which must not cost forge its cache.
    environment = os.environ | {"FOUNDRY_PROFILE": "slither", "PATH": path}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    report = json.loads(REPORT.read_text()) if REPORT.exists() else {"success": False}
    if not report["success"]:
        sys.exit(f"slither failed:\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}")
    findings: list[dict[str, Any]] = report["results"].get("detectors", [])
    return findings


def element(finding: dict[str, Any]) -> str:
    """`Contract.function`, `Contract.variable`, or a name alone outside contracts: what the finding is on."""
    first = finding["elements"][0]
    parent = first.get("type_specific_fields", {}).get("parent", {})
    while parent and parent["type"] == "function":
        first, parent = parent, parent["type_specific_fields"].get("parent", {})
    owner = f"{parent['name']}." if parent and parent["type"] == "contract" else ""
    return owner + str(first["name"])


def main() -> None:
    entries = tomllib.loads(TRIAGE.read_text())["stands"]
    accepted = {(entry["detector"], entry["element"]) for entry in entries if entry["reason"]}
    used: set[tuple[str, str]] = set()
    failed = False
    for finding in analyse():
        keys = {(finding["check"], element(finding)), (finding["check"], "*")} & accepted
        used |= keys
        if not keys:
            failed = True
            where = f"{finding['check']} in {element(finding)} ({finding['impact']})"
            print(f"{where}:\n  {finding['description'].strip()}", file=sys.stderr)
    for detector, name in sorted(accepted - used):
        failed = True
        print(f"{TRIAGE.name}: {detector} in {name} is no longer found, remove it", file=sys.stderr)
    sys.exit(failed)


if __name__ == "__main__":
    main()
