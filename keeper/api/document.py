"""What /openapi.json says of bodies and answers.

Answers are written by orjson and not validated, for they may be large; the models that describe them are declared, and
a test reads the answers of running nodes by them.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from keeper import schema

_REFERENCE = "#/components/schemas/{model}"
_SAID = {
    404: "Nothing of that name is known",
    409: "The attestors refuse",
    413: "The body is too long",
    422: "Something has not the form that is wanted",
    503: "A chain or the attestors do not answer",
}


def answers(model: type[BaseModel], *failures: int, example: Any = None, said: str = "") -> dict[int | str, Any]:
    """The responses of a route: `model`, and a problem for each status of `failures`."""
    good: dict[str, Any] = {"model": model, "description": said or (model.__doc__ or "").partition("\n")[0]}
    if example is not None:
        good["content"] = {"application/json": {"example": example}}
    return {200: good, **problems(*failures)}


def problems(*failures: int) -> dict[int | str, Any]:
    return {status: {"model": schema.Problem, "description": _SAID[status]} for status in failures}


def takes(model: type[BaseModel], example: Any = None) -> dict[str, Any]:
    """The body that a route takes, for its `openapi_extra`."""
    content: dict[str, Any] = {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def add_document(app: FastAPI, bodies: list[type[BaseModel]]) -> None:
    """Have `app` describe itself, with the models of `bodies` beside those of its answers."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, found = models_json_schema([(body, "validation") for body in bodies], ref_template=_REFERENCE)
            components = document.setdefault("components", {}).setdefault("schemas", {})
            for name, described in found["$defs"].items():
                components.setdefault(name, described)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
