"""What the set-up installs and compiles: pinned, from wherever this machine installs from, and the same as forge's."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements-setup.lock", "requirements.lock", "requirements-dev.lock")


def _pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,.-]+\])?==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def _entries(abi: list[object]) -> list[str]:
    """In one order; forge has one of its own."""
    return sorted(json.dumps(entry, sort_keys=True) for entry in abi)


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    for pin in re.split(r"\n(?=\S)", text):
        if not pin.startswith("#"):
            assert re.match(r"[\w.\[\],-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", pin, re.DOTALL), pin


def test_npm_packages_have_hashes_and_no_address() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    del packages[""]
    assert [name for name, package in packages.items() if "resolved" in package or "integrity" not in package] == []


def test_tools_change_no_version_that_a_node_runs_with() -> None:
    """Or going on from `make setup-demo` to `make setup` would install things twice, and test what nobody runs."""
    everything = _pins("requirements-dev.lock")
    assert len(everything) > len(_pins("requirements.lock")) > 50
    assert _pins("requirements.lock").items() <= everything.items()
    assert {name: everything.get(name, pin) for name, pin in _pins("requirements-setup.lock").items()} == _pins(
        "requirements-setup.lock"
    )


def test_uv_gets_what_pip_is_told() -> None:
    listing = "\n".join(
        [
            ":env:.index-url='https://a.example/simple'",
            "global.index-url='https://b.example/simple'",
            "global.extra-index-url='https://c.example/simple\\nfile:///d'",
            "global.cert='/etc/certificates.pem'",
            "install.trusted-host='a.example b.example'",
            "freeze.timeout='7'",
        ]
    )
    assert _script("uv").passed_on(listing, {"SSL_CERT_FILE": "/mine.pem"}) == {
        "UV_DEFAULT_INDEX": "https://a.example/simple",
        "UV_INDEX": "https://c.example/simple file:///d",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "a.example b.example",
    }
    assert _script("uv").passed_on("", {}) == {}


@pytest.mark.timeout(600)
def test_deployed_code_is_what_forge_tests() -> None:
    """Ours is compiled without forge, for the demo; both read the settings in foundry.toml."""
    sources = [folder for folder in ("contracts", "examples/integrator") if any((ROOT / folder).glob("**/*.sol"))]
    # Folders of its own, which leave the contract tests' build alone.
    folders = {"FOUNDRY_OUT": "build/deployed", "FOUNDRY_CACHE_PATH": "build/deployed-cache"}
    forge = [str(ROOT / "node_modules/.bin/forge"), "build", *sources]
    subprocess.run(forge, cwd=ROOT, env=os.environ | folders, check=True, capture_output=True)
    codes = {path.stem: path.read_text().strip() for path in (ROOT / "keeper/abi").glob("*.bin")}
    assert {"MarginVerifier", "ClearingHouse", "CollateralVault"} <= set(codes)
    for name, code in codes.items():
        (artifact,) = (ROOT / "build/deployed").glob(f"*/{name}.json")
        built = json.loads(artifact.read_text())
        assert code == built["bytecode"]["object"].removeprefix("0x"), name
        assert _entries(json.loads((ROOT / f"keeper/abi/{name}.json").read_text())) == _entries(built["abi"]), name
