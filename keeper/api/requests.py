"""What a request carries: bodies, of a bounded length, and ids in paths."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import Path, Query, Request

from keeper.margin.names import UnknownName, parse_name
from keeper.state.ids import AccountId, AssetId, IdError, parse_account_id, perpetual
from keeper.state.wire import WireError

from .problems import MAX_BODY, ApiError, too_large

_LONGEST_ID = 200

ChainQuery = Annotated[
    int, Query(ge=1, lt=2**64, description="Chain id", examples=[31_337_001], json_schema_extra={"format": "uint64"})
]
Epoch = Annotated[int, Path(ge=0, lt=2**63, description="Epoch of a batch", examples=[899_000_070])]
After = Annotated[int, Query(ge=-1, lt=2**63, description="Epoch that the answer must be later than")]
AccountPath = Annotated[
    str, Path(description="Owner's address, or account id of 32 bytes, in hexadecimal", examples=["0x" + "14" * 20])
]
AssetPath = Annotated[
    str, Path(description="An underlying for its perpetual, a name, or an asset id of 32 bytes", examples=["ETH"])
]


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries. Raises ApiError where it is too long, WireError where it is none."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:  # one without a length is found here
            raise too_large(f"more than {MAX_BODY}")
    try:
        data = orjson.loads(bytes(content))
    except orjson.JSONDecodeError as error:
        raise WireError("body", f"not JSON: {error}", wanted="a JSON object") from None
    if not isinstance(data, dict):
        raise WireError.of("body", "an object", data)
    return data


def read_account(value: Any, field: str = "path.account") -> AccountId:
    """An account by owner's address or id. Raises ApiError."""
    try:
        if isinstance(value, str) and len(value) <= _LONGEST_ID:
            return parse_account_id(value)
    except IdError as error:
        raise ApiError.malformed(field, value, f"an owner's address or an account id ({error})") from None
    except ValueError:
        pass
    raise ApiError.malformed(field, value, "an owner's address or an account id in hexadecimal")


def read_asset(value: str, field: str = "path.asset") -> AssetId:
    """An asset by 0x-hex id, by name (ETH-PERP), or an underlying for its perpetual. Raises ApiError."""
    wanted = "an underlying, a name like ETH-PERP, or 0x and 64 hexadecimal digits"
    try:
        if not value.startswith("0x"):
            return parse_name(value) if "-" in value else perpetual(value.upper())
        raw = bytes.fromhex(value[2:])
    except (UnknownName, IdError, ValueError, ArithmeticError):
        raw = b""
    if len(raw) != 32:
        raise ApiError.malformed(field, value, wanted)
    return AssetId(raw)
