"""The deployments file: written and read without loss, and refused with the reason where it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keeper.state.deployment import (
    Cctp,
    ChainDeployment,
    Contracts,
    Deployment,
    DeploymentError,
    Profile,
    Token,
)
from keeper.state.ids import Address, token_id


def _address(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def _chain(chain_id: int, integrator: Address | None, **more: Any) -> ChainDeployment:
    chain = ChainDeployment(
        chain_id=chain_id,
        name=f"chain {chain_id}",
        rpc="http://127.0.0.1:1",
        block_seconds=0.5,
        deploy_block=3,
        contracts=Contracts(*(_address(n) for n in range(1, 7))),
        settlement=Token("USDC", _address(10), 6),
        collateral=(Token("WETH", _address(11), 18, "ETH"), Token("WBTC", _address(12), 8, "BTC")),
        feeds={
            "USDC": _address(20),
            "ETH": _address(21),
            "BTC": _address(22),
            "ETH-PERP": _address(23),
            "ETH-VOL": _address(24),
        },
        integrator=integrator,
        **more,
    )
    return replace(chain, code_hashes={name: bytes([n]) * 32 for n, name in enumerate(chain.parts())})


@pytest.fixture
def deployment() -> Deployment:
    return Deployment(
        name="Cross Margin",
        version="1",
        deployment_id=bytes(range(32)),
        parameters_hash=bytes(32),
        attestors=(_address(31), _address(32), _address(33), _address(34)),
        threshold=3,
        attestor_set_id=1,
        profile=Profile(epoch_seconds=7, fee_rate=10**15),
        chains={
            5: _chain(5, None),
            40: _chain(
                40,
                _address(50),
                bridge=_address(51),
                cctp=Cctp(_address(52), _address(53), 6),
                pool=_address(54),
                swapper=_address(55),
            ),
        },
    )


def _without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


def _with(value: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


def test_roundtrip_keeps_everything(deployment: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "deployments.json"
    file.write_text(json.dumps(deployment.to_json()))
    assert Deployment.load(file) == deployment


def test_chains_and_attestors_come_back_ascending(deployment: Deployment) -> None:
    data = deployment.to_json()
    data["chains"] = dict(reversed(data["chains"].items()))
    data["attestors"].reverse()
    read = Deployment.from_json(data)
    assert list(read.chains) == [5, 40]
    assert read.attestors == deployment.attestors


def test_underlyings_leave_out_settlement_tokens_perpetuals_and_vols(deployment: Deployment) -> None:
    assert deployment.underlyings() == ("BTC", "ETH")


def test_token_assets_are_the_collateral_by_asset_id(deployment: Deployment) -> None:
    chain = deployment.chains[40]
    weth, wbtc = chain.collateral
    assert chain.token_assets() == {token_id(40, weth.address): weth, token_id(40, wbtc.address): wbtc}


def test_missing_file_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"no deployments file at .*nowhere\.json"):
        Deployment.load(tmp_path / "nowhere.json")


def test_malformed_json_is_named(tmp_path: Path) -> None:
    file = tmp_path / "deployments.json"
    file.write_text("{")
    with pytest.raises(DeploymentError, match=r"deployments\.json: not JSON"):
        Deployment.load(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("threshold"), "field 'threshold' is missing"),
        (_without("chains", "5", "rpc"), "field 'rpc' is missing"),
        (_without("chains", "40", "cctp", "domain"), "field 'domain' is missing"),
        (_with("0x12", "chains", "40", "bridge"), "an address has 20 bytes, got 1"),
        (_without("chains", "5", "contracts", "vault"), "field 'vault' is missing"),
        (_without("chains", "5", "codeHashes"), "field 'codeHashes' is missing"),
        (_without("chains", "5", "codeHashes", "feeds.ETH"), "one hash for each contract, see .*'feeds.ETH'"),
        (_with("0x" + "11" * 32, "chains", "5", "codeHashes", "bridge"), "one hash for each contract, see .*'bridge'"),
        (
            _with("0x11", "chains", "5", "codeHashes", "tokens.USDC"),
            "codeHashes.tokens.USDC: a hash has 32 bytes, got 1",
        ),
        (_with(0, "chains", "5", "blockSeconds"), "blockSeconds is 0, wanted seconds above 0"),
        (_with(float("nan"), "chains", "5", "blockSeconds"), "blockSeconds is nan"),
        (_with([], "profile"), "has no attribute"),
        (_with("0x1234", "chains", "5", "contracts", "vault"), "an address has 20 bytes, got 2"),
        (_with("0xzz", "deploymentId"), "non-hexadecimal"),
        (_with("many", "threshold"), "invalid literal"),
        (_with(1, "profile", "epoch_minutes"), "epoch_minutes"),
        (_with("ETH", "chains", "5", "tokens", "USDC", "underlying"), "one settlement token wanted, found \\[\\]"),
        (_without("chains", "5", "tokens", "WETH", "underlying"), "one settlement token wanted, found .*WETH"),
    ],
)
def test_wrong_field_is_named(
    deployment: Deployment, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    data = deployment.to_json()
    change(data)
    file = tmp_path / "deployments.json"
    file.write_text(json.dumps(data))
    with pytest.raises(DeploymentError, match=message):
        Deployment.load(file)
