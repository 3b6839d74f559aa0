"""What a chain gets and where: predicted before anything is sent, in an order in which it can be created."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from keeper.devnet import chains
from keeper.devnet.plan import ChainPlan, PlanError, plan_of
from keeper.devnet.processes import Node
from keeper.state.deployment import ChainDeployment, Deployment, Profile
from keeper.state.ids import Address

A, B, C = (chain.chain_id for chain in chains.CHAINS)
DEPLOYER = chains.account(chains.DEPLOYER).address
PLAN = plan_of([Node(chain, 1, 1, 1) for chain in chains.CHAINS], Profile(), ())
ZERO = "0x" + "00" * 20


def _address(number: int) -> str:
    return "0x" + number.to_bytes(20, "big").hex()


def _complete(chain_id: int, entry: dict[str, Any], first: int = 0) -> tuple[ChainPlan, ChainDeployment]:
    head = {key: value for key, value in PLAN.items() if key != "salt"}
    plan = ChainPlan(chain_id, entry, DEPLOYER, first, chains.DOMAINS)
    return plan, plan.complete(Deployment.from_json(head | {"deploymentId": "0x" + "11" * 32, "chains": {}}))


def _of_a_real_chain() -> dict[str, Any]:
    return {
        "name": "base",
        "rpc": "http://127.0.0.1:1",
        "blockSeconds": 2,
        "tokens": {
            "USDC": {"address": _address(1), "decimals": 6},
            "WETH": {"address": _address(2), "decimals": 18, "underlying": "ETH"},
        },
        "feeds": {"USDC": _address(3), "ETH": _address(4)},
        "integrator": _address(5),
        "pool": _address(6),
        "swapper": _address(7),
        "cctp": {
            "messenger": _address(8),
            "transmitter": _address(9),
            "domain": 6,
            "maxFeeBps": 1,
            "minFinalityThreshold": 2_000,
        },
    }


def test_addresses_are_those_of_create() -> None:
    """The first contracts of anvil's first account: printed by every tool that deploys with it."""
    plan = ChainPlan(A, PLAN["chains"][str(A)], DEPLOYER, 0, {})
    assert plan.predicted(0).hex() == "5fbdb2315678afecb367f032d93f642f64180aa3"
    assert plan.predicted(1).hex() == "e7f1725e7734ce288f8367e1bb143e90bb3f0512"


def test_equal_nonces_give_equal_addresses_and_other_nonces_others() -> None:
    made = [_complete(chain, PLAN["chains"][str(chain)])[1] for chain in (A, B, C)]
    assert len({(chain.contracts, chain.bridge, chain.pool, chain.swapper) for chain in made}) == 1
    assert _complete(A, PLAN["chains"][str(A)], first=1)[1].contracts != made[0].contracts


def test_every_address_is_that_of_its_part_and_nonces_ascend_with_waves() -> None:
    plan, made = _complete(A, PLAN["chains"][str(A)])
    where = {part.name: part.where for part in plan.parts if not part.method}
    assert {name: where[name] for name in made.contracts.__slots__} == {
        name: getattr(made.contracts, name) for name in made.contracts.__slots__
    }
    assert made.cctp is not None
    assert (where["cctp.messenger"], where["cctp.transmitter"]) == (made.cctp.messenger, made.cctp.transmitter)
    assert (where["bridge"], where["integrator"], where["pool.swapper"]) == (
        made.bridge,
        made.integrator,
        made.swapper,
    )
    assert [where[name] for name in where] == [plan.predicted(i) for i in range(len(where))]
    assert all(before.wave <= after.wave for before, after in pairwise(plan.parts))
    assert [part for number in range(3) for part in plan.wave(number)] == plan.parts


def test_bridges_route_to_the_other_chains_and_to_themselves_there() -> None:
    plan, made = _complete(B, PLAN["chains"][str(B)])
    (config,) = next(part.arguments for part in plan.parts if part.name == "bridge")
    assert made.bridge is not None
    assert (config["chainIds"], config["domains"]) == ([A, C], [0, 3])
    assert config["remotes"] == [bytes(12) + made.bridge] * 2
    vault = next(part.arguments for part in plan.parts if part.name == "vault")
    assert bytes.fromhex(vault[-1][2:]) == made.bridge


def test_a_real_chain_gets_the_protocols_contracts_alone() -> None:
    plan, made = _complete(8_453, _of_a_real_chain())
    assert [part.contract for part in plan.parts] == [
        "NativeBlockHistory",
        "MarginVerifier",
        "ClearingHouse",
        "CollateralVault",
        "MarginLens",
        "CctpBridge",
        "MarginReservations",
    ]
    assert made.cctp is not None
    assert [made.cctp.messenger, made.cctp.transmitter, made.integrator, made.pool, made.swapper] == [
        Address(bytes.fromhex(_address(n)[2:])) for n in (8, 9, 5, 6, 7)
    ]


def test_without_cctp_there_is_no_bridge() -> None:
    entry = {name: value for name, value in _of_a_real_chain().items() if name not in ("cctp", "pool", "swapper")}
    plan, made = _complete(8_453, entry)
    assert (made.bridge, made.cctp, made.pool, made.swapper) == (None, None, None, None)
    assert next(part.arguments for part in plan.parts if part.name == "vault")[-1] == ZERO


@pytest.mark.parametrize(
    ("part", "value", "named"),
    [
        ("pool", {"token": "WETH", "fee": 500, "depth": 1}, "pool"),
        ("integrator", {"maxMarkAge": 1, "maxStateAge": 1, "term": 1}, "integrator"),
        ("cctp", {"domain": 6, "attester": _address(1)}, "cctp"),
        ("feeds", {"USDC": {"answer": 1, "decimals": 8}}, "feeds.USDC"),
        ("tokens", {"USDC": {"decimals": 6}}, "tokens.USDC"),
    ],
)
def test_a_real_chain_is_refused_devnet_parts(part: str, value: Any, named: str) -> None:
    entry = _of_a_real_chain() | {part: value}
    with pytest.raises(PlanError, match=rf"chain 8453 is none of the devnet's: give addresses for \['{named}'\]"):
        _complete(8_453, entry)


def test_one_settlement_token_is_wanted() -> None:
    entry = _of_a_real_chain()
    entry["tokens"] = {"WETH": entry["tokens"]["WETH"]}
    with pytest.raises(PlanError, match="chain 8453: one token without underlying"):
        _complete(8_453, entry)


def test_what_is_planned_is_in_the_deployments_file() -> None:
    _, made = _complete(A, PLAN["chains"][str(A)])
    head = {key: value for key, value in PLAN.items() if key != "salt"}
    deployment = Deployment.from_json(head | {"deploymentId": "0x" + "11" * 32, "chains": {}})
    coded = replace(made, code_hashes=dict.fromkeys(made.parts(), bytes(32)))
    deployment = replace(deployment, chains={A: coded})
    assert Deployment.from_json(deployment.to_json()) == deployment
    assert deployment.underlyings() == ("BTC", "ETH", "SOL")
