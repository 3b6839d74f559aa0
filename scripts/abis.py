"""Compile what changed and write the ABI of every contract to keeper/abi: `ape run abis`.

Interfaces and the clearing house's parts are left out, their contracts say the same; the libraries of errors and events
are in, so that a reader can name any of them.
"""

from __future__ import annotations

import json
from pathlib import Path

from ape import project

ABI = Path(__file__).resolve().parents[1] / "keeper" / "abi"


def main() -> None:
    wanted = {
        name: contract
        for name, contract in project.load_contracts().items()
        if (contract.source_id or "").startswith("contracts/")
        and not any(part in (contract.source_id or "") for part in ("/interfaces/", "/clearing/"))
    }
    ABI.mkdir(exist_ok=True)
    for stale in ABI.glob("*.json"):
        if stale.stem not in wanted:
            stale.unlink()
    for name, contract in sorted(wanted.items()):
        abi = [entry.model_dump(mode="json", by_alias=True, exclude_none=True) for entry in contract.abi]
        if abi:
            (ABI / f"{name}.json").write_text(json.dumps(abi, indent=1) + "\n")
    print(f"{len(wanted)} contracts, ABIs in {ABI}")
