"""The HTTP interface of a node: margin, proofs and permits for people and protocols, proposals for attestors.

Reads are public. Whatever fails is told by one shape, `keeper.state.problem`; /openapi.json describes every route.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Path, Query, Request, Response
from pydantic import BaseModel

from keeper import schema
from keeper.attest.messages import QuorumBatch
from keeper.node.node import Node
from keeper.node.peers import PeerUnavailable, is_verdict
from keeper.schema.described import model_of
from keeper.schema.examples import ITEM
from keeper.state.live import PermitItem
from keeper.state.problem import Problem
from keeper.state.wire import from_json, to_json

from . import accounts, deployment, proofs, status, whatif
from .attestors import BODIES, add_attestation
from .document import add_document, answers, problems, takes
from .examples import QUORUM
from .netting import add_netting
from .problems import ApiError, add_problems, json_response
from .requests import AccountPath, After, AssetPath, ChainQuery, Epoch, read_account, read_asset, read_object

_DESCRIPTION = """Reads are public; what is signed is signed by owners and attestors, so no route asks for credentials.
Whatever fails is a Problem: 4xx for what the asker did, 503 for what a chain or the attestors did."""


def create_app(node: Node) -> FastAPI:
    """The application of one node; `state.netting` is its recorder of netting figures."""
    app = FastAPI(title="keeper", version="1", description=_DESCRIPTION, docs_url="/docs", redoc_url=None)
    add_problems(app)
    _add_node(app, node)
    _add_deployment(app, node)
    _add_accounts(app, node)
    _add_batches(app, node)
    _add_permits(app, node)
    bodies: list[type[BaseModel]] = [schema.WhatIfRequest, model_of(PermitItem)]
    if node.attestor is not None:
        add_attestation(app, node, node.attestor)
        bodies += BODIES
    app.state.netting = add_netting(app, node)
    add_document(app, bodies)
    return app


def _add_node(app: FastAPI, node: Node) -> None:
    @app.get("/health", summary="The process lives", responses=answers(schema.Health))
    async def health() -> Response:
        return json_response({"status": "alive", "name": node.config.name})

    unready: dict[str, Any] = {"model": schema.Unready, "description": "Not ready, and every reason"}

    @app.get(
        "/ready",
        summary="Every chain is fresh and batches are signed; 503 with the reasons otherwise",
        responses={**answers(schema.Ready), 503: unready},
    )
    async def ready() -> Response:
        faults = node.faults()
        if not faults:
            return json_response({"ready": True, "reasons": []})
        told = Problem("not_ready", "; ".join(faults)).to_json()
        return json_response({"ready": False, "reasons": faults, **told}, 503)

    @app.get("/v1/status", summary="What this node sees and does", responses=answers(schema.Status))
    async def node_status() -> Response:
        return json_response(status.status(node))

    @app.get(
        "/v1/liquidations",
        summary="Open legs, their concession now and what this node bids; what it took",
        responses=answers(schema.Liquidations),
    )
    async def liquidations() -> Response:
        return json_response(status.liquidations(node))


def _add_deployment(app: FastAPI, node: Node) -> None:
    @app.get(
        "/v1/deployment",
        summary="Addresses, attestors, EIP-712 domains and types, limits",
        responses=answers(schema.Deployment),
    )
    async def deployed() -> Response:
        return json_response(deployment.deployment(node))

    @app.get(
        "/v1/abi/{contract}",
        summary="The ABI of a contract",
        responses={
            200: {
                "description": "The entries as the compiler gives them",
                "content": {
                    "application/json": {
                        "schema": {"type": "array", "items": {"type": "object"}},
                        "example": [{"type": "error", "name": "NotOwner", "inputs": []}],
                    }
                },
            },
            **problems(404, 422),
        },
    )
    async def abi(contract: str = Path(examples=["MarginVerifier"])) -> Response:
        return json_response(deployment.abi(contract))


def _add_accounts(app: FastAPI, node: Node) -> None:
    @app.get(
        "/v1/accounts/{account}",
        summary="Margin of an account, with what explains it and what is live",
        responses=answers(schema.Account, 404, 422, 503),
    )
    async def account(account: AccountPath) -> Response:
        return json_response(await accounts.account(node, read_account(account)))

    @app.get(
        "/v1/accounts/{account}/proof",
        summary="Leaf and proof against the batch a chain holds",
        responses=answers(schema.AccountProof, 404, 422, 503),
    )
    async def proof(account: AccountPath, chain: ChainQuery) -> Response:
        return json_response(await proofs.account_proof(node, read_account(account), chain))

    @app.get(
        "/v1/marks/{asset}/proof",
        summary="A mark's leaf and proof against the batch a chain holds",
        responses=answers(schema.MarkProof, 404, 422, 503),
    )
    async def mark_proof(asset: AssetPath, chain: ChainQuery) -> Response:
        return json_response(await proofs.mark_proof(node, read_asset(asset), chain))

    @app.post(
        "/v1/whatif",
        summary="What an account's margin would be after trades, transfers and reservations: advice, no permit",
        responses=answers(schema.WhatIf, 404, 413, 422, 503),
        openapi_extra=takes(schema.WhatIfRequest),
    )
    async def what_if(request: Request) -> Response:
        asked = schema.WhatIfRequest.model_validate(await read_object(request))
        return json_response(await whatif.answer_of(node, asked))


def _add_batches(app: FastAPI, node: Node) -> None:
    batch = model_of(QuorumBatch)
    none: dict[int | str, dict[str, Any]] = {204: {"description": "None is known that is later than `after`"}}

    @app.get(
        "/v1/batches/latest",
        summary="The newest quorum batch, if later than `after`",
        responses={**answers(batch, 422, example=QUORUM), **none},
    )
    async def latest(after: After = -1) -> Response:
        quorum = node.batches.latest
        if quorum is None or quorum.content.batch.epoch <= after:
            return Response(status_code=204)
        return json_response(to_json(quorum))

    @app.get(
        "/v1/batches/{epoch}",
        summary="The quorum batch of an epoch",
        responses=answers(batch, 404, 422, example=QUORUM),
    )
    async def of_epoch(epoch: Epoch) -> Response:
        return json_response(to_json(node.batches.get(epoch)))


def _add_permits(app: FastAPI, node: Node) -> None:
    @app.post(
        "/v1/permits",
        summary="Ask the attestors for a permit; 409 with the reason where they refuse",
        responses=answers(schema.SignedPermit, 409, 413, 422, 503),
        openapi_extra=takes(model_of(PermitItem), ITEM),
    )
    async def permits(
        request: Request,
        forwarded: bool = Query(default=False, description="From one attestor to the one whose turn it is"),
    ) -> Response:
        item = from_json(PermitItem, await read_object(request))
        if node.desk is not None:
            node.view.require_started()
            return json_response(await node.desk.request(item, forwarded=forwarded))
        for peer in node.peers.urls:
            try:
                code, answer = await node.peers.request_permit(peer, item, forwarded=False)
            except PeerUnavailable:
                continue
            if is_verdict(code, answer):
                return json_response(answer, code)
        raise ApiError(503, Problem("no_attestor", "no attestor answers"))
