"""What a node answers while its chains do not: 503 that names the chain, never 500; and what it knows to be live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from attestors import PANEL, SIGNERS, Direct, Panel, run, see
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from test_lies_about_permits import ALICE, cash_out
from worlds import ETH, LISTING, MODEL, NOW, A, Chains, usd

from keeper import schema
from keeper.api.app import create_app
from keeper.api.live import free_nonce, items_of_owner
from keeper.margin.parameter_file import default_parameters
from keeper.node.config import NodeConfig
from keeper.node.node import Node
from keeper.node.peers import PeerUnavailable, is_verdict
from keeper.state.batch import LiquidationLeaf
from keeper.state.ids import AccountId, Address
from keeper.state.live import LegItem, LiveItem
from keeper.store.journal import Journal

SOMEBODY = "0x" + "5a" * 20


def _asked(folder: Path, work: Callable[[Node, httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    """What `work` asks of a node that serves, none of whose providers answers."""

    async def whole() -> None:
        config = NodeConfig(deployment=folder, state_dir=folder / "state", profile="devnet")
        deployment = replace(PANEL, parameters_hash=default_parameters().hash())
        async with Node(config, deployment) as node:
            for chain_id in node.deployment.chains:
                await node.view.poll(chain_id)
            transport = httpx.ASGITransport(create_app(node))
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                await work(node, client)

    asyncio.run(whole())


def test_chains_that_do_not_answer_are_named_and_no_fault_of_the_server(tmp_path: Path) -> None:
    async def work(node: Node, client: httpx.AsyncClient) -> None:
        name = node.deployment.chains[A].name
        asked = [
            (f"/v1/accounts/{SOMEBODY}", "not_ready"),
            (f"/v1/accounts/{SOMEBODY}/proof?chain={A}", "chain_unavailable"),
            (f"/v1/marks/ETH/proof?chain={A}", "chain_unavailable"),
            ("/v1/netting", "not_ready"),
            ("/ready", "not_ready"),
        ]
        answers = [(await client.get(path), code) for path, code in asked]
        answers.append((await client.post("/v1/whatif", json={"changes": []}), "not_ready"))
        for answer, code in answers:
            problem = schema.Problem.model_validate(answer.json())
            assert (answer.status_code, problem.code) == (503, code)
            assert f"chain {name} ({A})" in problem.message
        unknown = await client.get(f"/v1/accounts/{SOMEBODY}/proof?chain=5")
        assert (unknown.status_code, unknown.json()["field"]) == (404, "query.chain")
        status = schema.Status.model_validate((await client.get("/v1/status")).json())
        assert status.chains[str(A)].error
        permit = await client.post("/v1/permits", json=schema.SignedPermit.model_json_schema()["examples"][0]["item"])
        assert (permit.status_code, permit.json()["code"]) == (503, "no_attestor")

    _asked(tmp_path, work)


def test_what_nobody_foresaw_is_a_problem_and_one_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(node: Node, client: httpx.AsyncClient) -> None:
        monkeypatch.setattr(node, "faults", lambda: 1 // 0)
        with capture_logs() as logs:
            answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert "ZeroDivisionError" not in answer.text
        assert [(line["event"], line["path"]) for line in logs] == [("http.failed", "/ready")]

    _asked(tmp_path, work)


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (200, None, True),
        (409, "insufficient_free_margin", True),
        (422, "malformed", True),
        (503, "chain_late", True),
        (503, "no_quorum", True),
        (503, "not_ready", False),
        (500, "internal", False),
        (404, "no_route", False),
    ],
)
def test_a_node_that_cannot_judge_has_not_refused(status: int, code: str | None, verdict: bool) -> None:
    assert is_verdict(status, {"code": code}) is verdict


class Answering(Direct):
    """Of three attestors one does not answer, one tells the truth and one lies."""

    def __init__(self, told: dict[Address, list[LiveItem]]) -> None:
        super().__init__([])
        self.urls = dict.fromkeys([signer.address for signer in SIGNERS[:3]], "http://127.0.0.1:0")
        self.told = told

    async def live(self, peer: Address, accounts: Sequence[AccountId], seconds: float | None = None) -> list[LiveItem]:
        if peer not in self.told:
            raise PeerUnavailable("late")
        return self.told[peer]


def test_what_is_live_is_what_its_owner_signed_from_whoever_answers(tmp_path: Path) -> None:
    real = cash_out(10**6, nonce=3)
    unsigned = replace(real, permit=replace(real.permit, nonce=4))
    dead = cash_out(10**6, nonce=5)
    leg = LegItem(LiquidationLeaf(ALICE, A, ETH, 1, usd(3_000), 0, NOW), NOW)
    honest, liar = SIGNERS[0].address, SIGNERS[1].address

    async def work(panel: Panel) -> None:
        world = Chains().cash(ALICE, A, 1_000)
        attestor = panel.attestors[3]
        see(attestor, NOW, world)
        journal = Journal.open(tmp_path / "serving.db")
        node = SimpleNamespace(
            peers=Answering({honest: [real], liar: [unsigned, leg, real]}),
            journal=journal,
            attestor=None,
            deployment=PANEL,
            listing=LISTING,
            model=MODEL,
            view=attestor.view,
            observer=attestor.observer,
        )
        found = await items_of_owner(node, ALICE, attestor.view.final_world())
        assert found.items == (real,)
        assert found.said_by == tuple(sorted([honest, liar]))
        assert found.to_json(node)["live"][0]["description"].startswith("withdrawal of 1 USDC on chain")
        node.peers = Answering({})
        nobody = await items_of_owner(node, ALICE, attestor.view.final_world())
        assert nobody.to_json(node) == {"live": None, "liveFrom": "unknown here"}
        see(attestor, NOW + 100, world)
        node.peers = Answering({honest: [dead]})
        assert (await items_of_owner(node, ALICE, attestor.view.final_world())).items == ()
        journal.close()

    run(tmp_path, work)


@given(st.sets(st.integers(0, 12)), st.sets(st.integers(0, 12)))
def test_the_free_nonce_is_the_lowest_that_is_neither_used_nor_live(used: set[int], live: set[int]) -> None:
    world = Chains().world
    state = world[A]
    for nonce in used:
        state = replace(state, used_nonces=state.used_nonces.set((ALICE, nonce), bytes(32)))
    state = replace(state, used_nonces=state.used_nonces.set((AccountId(bytes(32)), 13), bytes(32)))
    found = free_nonce(ALICE, [{**world, A: state}], [cash_out(1, nonce) for nonce in live])
    assert found not in used | live
    assert set(range(found)) <= used | live
