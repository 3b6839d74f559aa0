"""What the models have in common: names as JSON has them, exact integers, bytes as 0x-hex, values of `keeper.state`."""

from __future__ import annotations

import re
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from keeper.state.wire import from_json, to_json

from .described import described

_DECIMAL = re.compile(r"-?[0-9]{1,78}", re.ASCII)
_HEX = re.compile(r"0x([0-9a-fA-F]{2})*", re.ASCII)


class Answer(BaseModel):
    """What a node says. Attributes are snake_case, JSON is camelCase; fields that a newer node adds are passed over."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Asked(BaseModel):
    """What a node is asked. A field that is not known is refused, not passed over."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 256:
        return value
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return int(value)
    raise ValueError("wanted a whole number of at most 256 bits, as decimal text or a JSON integer")


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and _HEX.fullmatch(value):
        return bytes.fromhex(value[2:])
    raise ValueError("wanted 0x and pairs of hexadecimal digits")


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _sized(size: int) -> AfterValidator:
    def check(value: bytes) -> bytes:
        if len(value) != size:
            raise ValueError(f"wanted {size} bytes, got {len(value)}")
        return value

    return AfterValidator(check)


def _hex_schema(pattern: str, description: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "description": description})


Amount = Annotated[
    int,
    BeforeValidator(_integer),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": "^-?[0-9]{1,78}$", "description": "A whole number as decimal text, exact"}
    ),
]
"""An exact integer, a decimal string in JSON, so that no reader loses a digit. USD, prices and sizes are scaled by
1e18."""

Count = Annotated[int, Field(ge=0, lt=2**64)]
"""An integer of 64 bits, a number in JSON: a time in unix seconds, an epoch, a block, a chain id."""

Hex = Annotated[
    bytes,
    BeforeValidator(_bytes),
    PlainSerializer(_hex, return_type=str),
    _hex_schema("^0x([0-9a-fA-F]{2})*$", "Bytes as 0x and hexadecimal digits"),
]

Hex32 = Annotated[
    bytes,
    BeforeValidator(_bytes),
    _sized(32),
    PlainSerializer(_hex, return_type=str),
    _hex_schema("^0x[0-9a-fA-F]{64}$", "32 bytes as 0x and 64 hexadecimal digits"),
]
"""An account id, an asset id or a hash."""

Hex20 = Annotated[
    bytes,
    BeforeValidator(_bytes),
    _sized(20),
    PlainSerializer(_hex, return_type=str),
    _hex_schema("^0x[0-9a-fA-F]{40}$", "An address as 0x and 40 hexadecimal digits"),
]


@dataclass(frozen=True)
class Wire:
    """Marks a field that holds a value of `keeper.state`, read and written as `keeper.state.wire` does."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = tuple(typing.get_args(source)) or (source,)
        tagged = isinstance(source, types.UnionType) or typing.get_origin(source) is typing.Union

        def read(value: Any) -> Any:
            return value if isinstance(value, kinds) else from_json(source, value)

        return core_schema.no_info_plain_validator_function(
            read,
            metadata={"wire": source},
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: to_json(value, tagged=tagged), when_used="json"
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return described(typing.cast("dict[str, Any]", schema)["metadata"]["wire"], handler)
