"""Compile the contracts; write the ABI of each and the code that creates it to keeper/abi: `python3 scripts/abis.py`.

contracts/ and examples/integrator are compiled, with the settings of foundry.toml. `NAME.json` is the ABI, `NAME.bin`
the creation code in hexadecimal. Interfaces and the clearing house's parts are left out, their contracts say the same;
the libraries of errors and events are in, so that a reader can name any of them.

Nothing but Python's own library is used, so that this runs while the packages are still being installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ABI = ROOT / "keeper" / "abi"
SOURCES = ("contracts/**/*.sol", "examples/integrator/*.sol")


def standard_input() -> dict[str, Any]:
    """What the compiler is given: our files, and of what they import only the place."""
    settings = tomllib.loads((ROOT / "foundry.toml").read_text())["profile"]["default"]
    files = [path for pattern in SOURCES for path in sorted(ROOT.glob(pattern)) if ".cache" not in path.parts]
    return {
        "language": "Solidity",
        "sources": {str(path.relative_to(ROOT)): {"content": path.read_text()} for path in files},
        "settings": {
            "remappings": settings["remappings"],
            "evmVersion": settings["evm_version"],
            "optimizer": {"enabled": settings["optimizer"], "runs": settings["optimizer_runs"]},
            "metadata": {"bytecodeHash": settings["bytecode_hash"], "appendCBOR": settings["cbor_metadata"]},
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
        },
    }


def compiled(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What can be created of the files given, by name. Exits with the compiler's words where it finds errors."""
    command = [str(next((ROOT / ".toolchain" / "solc").glob("solc-v*"))), "--standard-json", "--base-path", str(ROOT)]
    answer = json.loads(subprocess.run(command, input=json.dumps(given), text=True, stdout=-1, check=True).stdout)
    for complaint in answer.get("errors", []):
        print(complaint["formattedMessage"], file=sys.stderr)
    if any(complaint["severity"] == "error" for complaint in answer.get("errors", [])):
        sys.exit(1)
    found: dict[str, dict[str, Any]] = {}
    for file in given["sources"]:
        for name, contract in answer["contracts"].get(file, {}).items():
            if not contract["abi"] or not contract["evm"]["bytecode"]["object"]:
                continue
            if name in found:
                sys.exit(
                    f"two contracts are called {name}, the second in {file}: keeper/abi has one file for each name"
                )
            found[name] = contract
    return found


def main() -> None:
    contracts = compiled(standard_input())
    ABI.mkdir(exist_ok=True)
    for stale in [*ABI.glob("*.json"), *ABI.glob("*.bin")]:
        if stale.stem not in contracts:
            stale.unlink()
    for name, contract in contracts.items():
        (ABI / f"{name}.json").write_text(json.dumps(contract["abi"], indent=1) + "\n")
        (ABI / f"{name}.bin").write_text(contract["evm"]["bytecode"]["object"] + "\n")
    print(f"{len(contracts)} contracts, ABIs and code in {ABI}")


if __name__ == "__main__":
    main()
