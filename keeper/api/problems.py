"""Every failure over HTTP as one Problem: 4xx for what the asker did, 503 for what a chain or the attestors did.

An exception that nothing here foresees is 500 with the code `internal`, and one line in the log; nothing that an asker
sends should lead there.
"""

from __future__ import annotations

from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keeper.attest.codec import CodecError
from keeper.attest.merkle import MerkleError
from keeper.chain.rpc import RpcError, RpcUnavailable
from keeper.margin.listing import UnknownAsset
from keeper.market.marks import MarkError
from keeper.node.batches import UnknownBatch
from keeper.node.peers import NO_QUORUM
from keeper.node.refusal import OF_CHAINS, Refused
from keeper.node.view import NotReady
from keeper.state.ids import IdError
from keeper.state.problem import Problem, echo
from keeper.state.wire import WireError

log = structlog.get_logger()

MAX_BODY = 8 * 1024 * 1024
"""Largest request body taken, bytes: a proposal of some ten thousand accounts."""
_LONGEST_MESSAGE = 1_000
_SHOULD_BE = "Input should be "


class ApiError(Exception):
    """Ends a request with a problem."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.message)
        self.status = status
        self.problem = problem

    @classmethod
    def malformed(cls, field: str, got: Any, wanted: str, unit: str | None = None) -> ApiError:
        """422: a field that has not the form or the range that is wanted."""
        message = f"{field}: wanted {wanted}, got {echo(got)!r}"
        return cls(422, Problem("malformed", message, field, got, wanted, unit))

    @classmethod
    def not_found(cls, message: str, field: str | None = None, got: Any = None, wanted: str | None = None) -> ApiError:
        """404: nothing of that name is known."""
        return cls(404, Problem("not_found", message, field, got, wanted))

    @classmethod
    def chain(cls, chain_id: int, name: str, reason: str) -> ApiError:
        """503: a chain that does not answer."""
        told = f"chain {name} ({chain_id}): {reason}"
        return cls(503, Problem("chain_unavailable", told, details={"chainId": chain_id, "chain": name}))


def json_response(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


def problem_response(status: int, problem: Problem) -> Response:
    body = problem.to_json()
    return json_response({**body, "message": echo(problem.message, _LONGEST_MESSAGE)}, status)


def too_large(length: int | str) -> ApiError:
    wanted = f"at most {MAX_BODY}"
    return ApiError(
        413, Problem("too_large", f"a body of {length} bytes, {wanted} are taken", "body", length, wanted, "bytes")
    )


def status_of(code: str) -> int:
    """The HTTP status of an attestor's refusal."""
    if code == "malformed":
        return 422
    return 503 if code in OF_CHAINS or code == NO_QUORUM else 409


def invalid(errors: list[Any], prefix: str = "") -> Problem:
    """What pydantic found first, as a problem."""
    first = errors[0]
    field = ".".join([*([prefix] if prefix else []), *map(str, first["loc"])])
    if first["type"] == "missing":
        return Problem("malformed", f"{field}: missing", field, None, "a value")
    text = str(first["msg"]).removeprefix("Value error, ").removeprefix("wanted ")
    wanted = text.removeprefix(_SHOULD_BE)
    message = f"{field}: {'wanted ' if wanted != text else ''}{wanted}, got {echo(first.get('input'))!r}"
    return Problem("malformed", message, field, first.get("input"), wanted)


def add_problems(app: FastAPI) -> None:
    """Have `app` answer every failure by a problem."""
    app.add_middleware(Guard)

    @app.exception_handler(ApiError)
    async def known(_: Request, error: ApiError) -> Response:
        return problem_response(error.status, error.problem)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return problem_response(status_of(error.code), error.problem)

    @app.exception_handler(WireError)
    async def unreadable(_: Request, error: WireError) -> Response:
        field = error.path.partition(".")[2] or "body"
        return problem_response(422, Problem("malformed", str(error), field, error.got, error.wanted))

    @app.exception_handler(IdError)
    @app.exception_handler(CodecError)
    @app.exception_handler(MerkleError)
    async def malformed(_: Request, error: ValueError) -> Response:
        return problem_response(422, Problem("malformed", str(error)))

    @app.exception_handler(RequestValidationError)
    async def parameters(_: Request, error: RequestValidationError) -> Response:
        return problem_response(422, invalid(list(error.errors())))

    @app.exception_handler(ValidationError)
    async def body(_: Request, error: ValidationError) -> Response:
        return problem_response(422, invalid(error.errors(include_url=False), "body"))

    @app.exception_handler(NotReady)
    async def not_ready(_: Request, error: NotReady) -> Response:
        return problem_response(503, Problem("not_ready", str(error)))

    @app.exception_handler(MarkError)
    @app.exception_handler(UnknownAsset)
    async def no_mark(_: Request, error: ValueError) -> Response:
        return problem_response(503, Problem("no_mark", str(error)))

    @app.exception_handler(RpcUnavailable)
    @app.exception_handler(RpcError)
    async def chain(_: Request, error: Exception) -> Response:
        return problem_response(503, Problem("chain_unavailable", str(error)))

    @app.exception_handler(UnknownBatch)
    async def unknown(_: Request, error: LookupError) -> Response:
        return problem_response(404, Problem("not_found", str(error), "path.epoch"))

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        path = echo(request.url.path)
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            told = Problem("method_not_allowed", f"{path} takes {allowed}", "method", request.method, allowed)
        elif error.status_code == 404:
            told = Problem("no_route", f"no route {path}: /openapi.json has all there are", "path", path)
        else:
            told = Problem("http", str(error.detail))
        response = problem_response(error.status_code, told)
        response.headers.update(error.headers or {})
        return response


class Guard:
    """The outermost layer: refuses bodies that say they are too long, and answers what nobody else answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if not length.isdigit() or len(length) > 16 or int(length) > MAX_BODY:
                oversized = too_large(str(echo(length.decode("latin-1"))))
                await problem_response(oversized.status, oversized.problem)(scope, receive, send)
                return
            await self._app(scope, receive, watched)
        except Exception:
            log.exception("http.failed", method=scope["method"], path=echo(scope["path"]))
            if begun:
                raise
            told = Problem("internal", "this node failed to answer; its log has the cause")
            await problem_response(500, told)(scope, receive, send)
