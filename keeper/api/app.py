"""The HTTP interface of a node: margin, proofs and permits for people and protocols, proposals for attestors.

Reads are public. A refusal is always JSON with `code` and `message` and the figures that explain it.
"""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from keeper.attest.codec import CodecError
from keeper.attest.merkle import MerkleError
from keeper.attest.messages import BatchDraft, BatchProposal, PermitProposal, QuorumBatch
from keeper.attest.signatures import QuorumError
from keeper.node.batches import UnknownBatch
from keeper.node.node import Node
from keeper.node.peers import PeerUnavailable
from keeper.node.preview import refused_legs
from keeper.node.refusal import NotARequest, Refused
from keeper.node.view import NotReady
from keeper.state.ids import IdError, parse_account_id
from keeper.state.live import PermitItem
from keeper.state.problem import Problem
from keeper.state.wire import WireError, from_json, to_json

from . import queries
from .netting import add_netting

MAX_BODY = 8 * 1024 * 1024
"""Largest request body taken, bytes: a proposal of some ten thousand accounts."""


class TooLarge(ValueError):
    """A body that is not read to its end."""


def json_response(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


def create_app(node: Node) -> FastAPI:
    """The application of one node; `state.netting` is its recorder of netting figures."""
    app = FastAPI(title="keeper", version="1", docs_url="/docs", redoc_url=None)

    @app.middleware("http")
    async def bounded(request: Request, call_next: Any) -> Response:
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            return _problem(413, "too_large", f"a request of {length} bytes, at most {MAX_BODY} are taken")
        response: Response = await call_next(request)
        return response

    _add_errors(app)
    _add_reads(app, node)
    _add_permits(app, node)
    _add_attestation(app, node)
    app.state.netting = add_netting(app, node)
    return app


def _problem(status: int, code: str, message: str) -> Response:
    return json_response(Problem(code, message).to_json(), status)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return json_response(error.problem.to_json(), 422 if isinstance(error, NotARequest) else 409)

    @app.exception_handler(WireError)
    @app.exception_handler(IdError)
    @app.exception_handler(CodecError)
    @app.exception_handler(MerkleError)
    async def malformed(_: Request, error: ValueError) -> Response:
        return _problem(422, "malformed", str(error))

    @app.exception_handler(TooLarge)
    async def too_large(_: Request, error: TooLarge) -> Response:
        return _problem(413, "too_large", str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _problem(422, "malformed", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(NotReady)
    async def not_ready(_: Request, error: NotReady) -> Response:
        return _problem(503, "not_ready", str(error))

    @app.exception_handler(UnknownBatch)
    @app.exception_handler(queries.NotFound)
    async def not_found(_: Request, error: LookupError) -> Response:
        return _problem(404, "not_found", str(error))


def _add_reads(app: FastAPI, node: Node) -> None:
    @app.get("/health", summary="The process lives")
    async def health() -> Response:
        return json_response({"status": "alive", "name": node.config.name})

    @app.get("/ready", summary="Every chain is fresh and batches are signed; 503 with the reasons otherwise")
    async def ready() -> Response:
        faults = node.faults()
        return json_response({"ready": not faults, "reasons": faults}, 503 if faults else 200)

    @app.get("/v1/status", summary="What this node sees and does")
    async def status() -> Response:
        return json_response(queries.status(node))

    @app.get("/v1/accounts/{account}", summary="Margin of an account, with what explains it")
    async def account(account: str) -> Response:
        return json_response(queries.account(node, parse_account_id(account)))

    @app.get("/v1/accounts/{account}/proof", summary="Leaf and proof against the batch a chain holds")
    async def proof(account: str, chain: int) -> Response:
        return json_response(await queries.account_proof(node, parse_account_id(account), chain))

    @app.get("/v1/marks/{asset}/proof", summary="A mark's leaf and proof against the batch a chain holds")
    async def mark_proof(asset: str, chain: int) -> Response:
        return json_response(await queries.mark_proof(node, asset, chain))

    @app.get(
        "/v1/liquidations",
        summary="Open legs, their concession now and what this node bids; what it took",
    )
    async def liquidations() -> Response:
        return json_response(queries.liquidations(node))

    @app.get("/v1/batches/latest", summary="The newest quorum batch, if later than `after`")
    async def latest(after: int = -1) -> Response:
        quorum = node.batches.latest
        if quorum is None or quorum.content.batch.epoch <= after:
            return Response(status_code=204)
        return json_response(to_json(quorum))

    @app.get("/v1/batches/{epoch}", summary="The quorum batch of an epoch")
    async def batch(epoch: int) -> Response:
        return json_response(to_json(node.batches.get(epoch)))


def _add_permits(app: FastAPI, node: Node) -> None:
    @app.post("/v1/permits", summary="Ask the attestors for a permit; 409 with the reason where they refuse")
    async def permits(request: Request, forwarded: bool = False) -> Response:
        item = from_json(PermitItem, await _body(request))
        if node.desk is not None:
            return json_response(await node.desk.request(item, forwarded=forwarded))
        for peer in node.peers.urls:
            try:
                code, answer = await node.peers.request_permit(peer, item, forwarded=False)
            except PeerUnavailable:
                continue
            return json_response(answer, code)
        return _problem(503, "no_attestor", "no attestor answers")


def _add_attestation(app: FastAPI, node: Node) -> None:
    attestor = node.attestor
    if attestor is None:
        return

    @app.post("/v1/attest/batch", include_in_schema=False)
    async def attest_batch(request: Request) -> Response:
        proposal = from_json(BatchProposal, await _body(request))
        return json_response({"signature": "0x" + (await attestor.sign_proposed_batch(proposal)).hex()})

    @app.post("/v1/attest/preview", include_in_schema=False)
    async def attest_preview(request: Request) -> Response:
        draft = from_json(BatchDraft, await _body(request))
        return json_response({"refused": await refused_legs(attestor, draft)})

    @app.post("/v1/attest/permit", include_in_schema=False)
    async def attest_permit(request: Request) -> Response:
        proposal = from_json(PermitProposal, await _body(request))
        return json_response({"signature": "0x" + (await attestor.sign_proposed_permit(proposal)).hex()})

    @app.post("/v1/attest/live", include_in_schema=False)
    async def attest_live(request: Request) -> Response:
        accounts = [parse_account_id(entry) for entry in (await _body(request)).get("accounts", [])]
        return json_response({"items": to_json(attestor.live_beside(accounts), tagged=True)})

    @app.post("/v1/attest/quorum", include_in_schema=False)
    async def attest_quorum(request: Request) -> Response:
        try:
            added = node.batches.add(from_json(QuorumBatch, await _body(request)))
        except (QuorumError, ValueError) as error:
            return _problem(422, "bad_batch", str(error))
        return json_response({"added": added})


async def _body(request: Request) -> Any:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:  # one without a length is found here
            raise TooLarge(f"a body of more than {MAX_BODY} bytes")
    try:
        data = orjson.loads(bytes(content))
    except orjson.JSONDecodeError as error:
        raise WireError(f"body: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise WireError("body: wanted an object")
    return data
