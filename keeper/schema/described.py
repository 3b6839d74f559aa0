"""The JSON schema of a value of `keeper.state`, from its dataclass: the form that `keeper.state.wire` reads and writes.

The dataclasses are what is hashed and signed; described by hand a second time, the two would part.
"""

from __future__ import annotations

import types
import typing
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, WithJsonSchema, create_model

from keeper.state.ids import AccountId, Address, AssetId
from keeper.state.wire import wire_fields

_TEXTS = {
    AccountId: ("^0x[0-9a-fA-F]{64}$", "Owner's address and sub-account (12 bytes): 0x and 64 hexadecimal digits"),
    AssetId: ("^0x[0-9a-fA-F]{64}$", "An instrument or a token, by its id: 0x and 64 hexadecimal digits"),
    Address: ("^0x[0-9a-fA-F]{40}$", "An address: 0x and 40 hexadecimal digits"),
    bytes: ("^0x([0-9a-fA-F]{2})*$", "Bytes: 0x and hexadecimal digits"),
}
_WIDE = {"type": "string", "pattern": "^-?[0-9]{1,78}$", "description": "A whole number as decimal text, exact"}


def described(kind: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """The schema of one dataclass, or of a union of them, whose members carry their names as `type`."""
    members = typing.get_args(kind) or (kind,)
    schemas = [handler(model_of(member).__pydantic_core_schema__) for member in members]
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


@cache
def model_of(kind: type) -> type[BaseModel]:
    """A model that describes a dataclass; it reads nothing: `keeper.state.wire` does."""
    values: dict[str, Any] = {"type": (Literal[kind.__name__], Field(default=kind.__name__))}
    for wire, hint, number, optional in wire_fields(kind):
        values["from_" if wire == "from" else wire] = (
            _described(hint, number),
            Field(default=None, alias=wire) if optional else Field(alias=wire),
        )
    summary = (kind.__doc__ or "").partition("\n\n")[0].replace("\n    ", " ")
    config = ConfigDict(extra="forbid", protected_namespaces=())
    return create_model(kind.__name__, __config__=config, __doc__=summary, **values)


def _described(hint: Any, number: bool) -> Any:
    if hint in _TEXTS:
        pattern, text = _TEXTS[hint]
        return Annotated[str, WithJsonSchema({"type": "string", "pattern": pattern, "description": text})]
    if hint is int:
        return Annotated[int, Field(ge=0, lt=2**64)] if number else Annotated[str, WithJsonSchema(_WIDE)]
    if hint in (bool, str, float):
        return hint
    if typing.get_origin(hint) is tuple:
        return list[_described(typing.get_args(hint)[0], number)]  # type: ignore[misc]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        members = tuple(model_of(member) for member in typing.get_args(hint))
        return Annotated[typing.Union[members], Field(discriminator="type")]  # noqa: UP007
    return model_of(hint)
