"""A node takes its deployment's model from the parameters, and signs by none that is not convex."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from worlds import make_deployment

from keeper.devnet.chains import account
from keeper.margin.parameter_file import default_parameters, load_parameters
from keeper.node.config import ConfigError, NodeConfig
from keeper.node.node import Node
from keeper.state.deployment import Deployment

DATA = Path(str(resources.files("keeper.margin"))) / "data"
KEY = account(0)


def deployment_of(parameters: Path) -> Deployment:
    return replace(
        make_deployment(),
        parameters_hash=load_parameters(parameters).hash(),
        attestors=(KEY.address,),
        threshold=1,
    )


def config_of(folder: Path, parameters: Path | None, *, attest: bool) -> NodeConfig:
    lines = ['profile = "devnet"', 'deployment = "deployment.json"', 'state_dir = "state"']
    lines += [] if parameters is None else [f'parameters = "{parameters}"']
    lines += (
        ['roles = ["attest", "serve"]', "[attest]", f'key = {{ private_key = "{KEY.key.hex()}" }}'] if attest else []
    )
    (folder / "keeper.toml").write_text("\n".join(lines))
    return NodeConfig.load(folder / "keeper.toml")


@pytest.mark.parametrize("model", ["xpm", "pmrm2"])
@pytest.mark.asyncio
async def test_an_attestor_runs_on_the_model_of_its_parameters(tmp_path: Path, model: str) -> None:
    parameters = DATA / f"{model}.toml"
    async with Node(config_of(tmp_path, parameters, attest=True), deployment_of(parameters)) as node:
        assert node.model.name == model
        assert node.attestor is not None
        assert node.attestor.model is node.model


@pytest.mark.asyncio
async def test_without_parameters_it_is_xpm(tmp_path: Path) -> None:
    deployment = deployment_of(DATA / "xpm.toml")
    assert deployment.parameters_hash == default_parameters().hash()
    async with Node(config_of(tmp_path, None, attest=True), deployment) as node:
        assert node.model.name == "xpm"


@pytest.mark.asyncio
async def test_nobody_attests_by_span_and_anybody_observes_it(tmp_path: Path) -> None:
    parameters = DATA / "span.toml"
    with pytest.raises(
        ConfigError, match=r"\[attest\]: the margin model span is not convex here.* observes and serves"
    ):
        Node(config_of(tmp_path, parameters, attest=True), deployment_of(parameters))
    # Nothing was begun: no journal of a node that may not sign.
    assert not (tmp_path / "state").exists()
    async with Node(config_of(tmp_path, parameters, attest=False), deployment_of(parameters)) as node:
        assert node.model.name == "span"


def test_parameters_that_are_not_the_deployments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the deployment was made for"):
        Node(config_of(tmp_path, DATA / "pmrm2.toml", attest=True), deployment_of(DATA / "xpm.toml"))
    with pytest.raises(ConfigError, match=r"parameters: .*none\.toml"):
        Node(config_of(tmp_path, tmp_path / "none.toml", attest=True), deployment_of(DATA / "xpm.toml"))
