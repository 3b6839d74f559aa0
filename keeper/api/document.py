"""What /openapi.json says of bodies and answers.

Answers are written by orjson and not validated, for they may be large; the models that describe them are declared, and
a test reads the answers of running nodes by them.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from keeper import schema
from keeper.schema.base import Answer

_REFERENCE = "#/components/schemas/{model}"
_ANSWERS: list[type[BaseModel]] = [
    each for each in vars(schema).values() if isinstance(each, type) and issubclass(each, Answer)
]
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
            components = document.setdefault("components", {}).setdefault("schemas", {})
            components |= _definitions(bodies, "validation")
            # FastAPI leaves nulls out of examples; in an answer they stand for what does not apply.
            told = _definitions(_ANSWERS, "serialization")
            components |= {name: told[name] for name in components.keys() & told.keys()}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _definitions(models: list[type[BaseModel]], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    _, found = models_json_schema([(model, mode) for model in models], ref_template=_REFERENCE)
    definitions: dict[str, Any] = found["$defs"]
    return definitions
