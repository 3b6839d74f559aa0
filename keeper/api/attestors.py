"""What attestors ask each other: to sign batches and permits, what is live, and to take a quorum's batch in."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from keeper import schema
from keeper.attest.messages import BatchDraft, BatchProposal, PermitProposal, QuorumBatch
from keeper.attest.signatures import QuorumError
from keeper.node.attestor import Attestor
from keeper.node.node import Node
from keeper.node.preview import refused_legs
from keeper.schema.described import model_of
from keeper.state.problem import Problem
from keeper.state.wire import from_json, to_json

from .document import answers, takes
from .examples import DRAFT, PERMIT_PROPOSAL, PROPOSAL, QUORUM
from .problems import ApiError, json_response
from .requests import read_account, read_object

BODIES: list[type[BaseModel]] = [
    *map(model_of, (BatchDraft, BatchProposal, PermitProposal, QuorumBatch)),
    schema.LiveQuestion,
]


def add_attestation(app: FastAPI, node: Node, attestor: Attestor) -> None:
    """The routes that only an attestor has."""

    @app.post(
        "/v1/attest/batch",
        summary="Sign a batch, proposed by the attestor whose turn it is",
        tags=["attestors"],
        responses=answers(schema.Signature, 409, 413, 422, 503),
        openapi_extra=takes(model_of(BatchProposal), PROPOSAL),
    )
    async def attest_batch(request: Request) -> Response:
        proposal = from_json(BatchProposal, await read_object(request))
        node.view.require_started()
        return json_response({"signature": "0x" + (await attestor.sign_proposed_batch(proposal)).hex()})

    @app.post(
        "/v1/attest/preview",
        summary="Which legs of a draft would not be signed",
        tags=["attestors"],
        responses=answers(schema.RefusedLegs, 409, 413, 422, 503),
        openapi_extra=takes(model_of(BatchDraft), DRAFT),
    )
    async def attest_preview(request: Request) -> Response:
        draft = from_json(BatchDraft, await read_object(request))
        node.view.require_started()
        return json_response({"refused": await refused_legs(attestor, draft)})

    @app.post(
        "/v1/attest/permit",
        summary="Sign a permit, with everything that its proposer knows to be live",
        tags=["attestors"],
        responses=answers(schema.Signature, 409, 413, 422, 503),
        openapi_extra=takes(model_of(PermitProposal), PERMIT_PROPOSAL),
    )
    async def attest_permit(request: Request) -> Response:
        proposal = from_json(PermitProposal, await read_object(request))
        node.view.require_started()
        return json_response({"signature": "0x" + (await attestor.sign_proposed_permit(proposal)).hex()})

    @app.post(
        "/v1/attest/live",
        summary="What is live on any account of the owners of some accounts",
        tags=["attestors"],
        responses=answers(schema.LiveItems, 413, 422, 503),
        openapi_extra=takes(schema.LiveQuestion),
    )
    async def attest_live(request: Request) -> Response:
        question = schema.LiveQuestion.model_validate(await read_object(request))
        named = enumerate(question.accounts)
        accounts = [read_account(account, f"body.accounts.{number}") for number, account in named]
        node.view.require_started()
        return json_response({"items": to_json(attestor.live_beside(accounts), tagged=True)})

    @app.post(
        "/v1/attest/quorum",
        summary="Take in a batch that a quorum signed",
        tags=["attestors"],
        responses=answers(schema.Added, 413, 422, 503),
        openapi_extra=takes(model_of(QuorumBatch), QUORUM),
    )
    async def attest_quorum(request: Request) -> Response:
        quorum = from_json(QuorumBatch, await read_object(request))
        try:
            return json_response({"added": node.batches.add(quorum)})
        except (QuorumError, ValueError) as error:
            raise ApiError(422, Problem("bad_batch", str(error))) from None
