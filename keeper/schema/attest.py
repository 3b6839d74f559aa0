"""What attestors say to each other beside batches and permits, whose form `keeper.attest.messages` has."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from keeper.state.live import LegItem, PermitItem

from .base import Answer, Asked, Hex, Wire
from .examples import ID


class Signature(Answer):
    """An attestor's signature, 65 bytes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"signature": "0x" + "1b" * 65}]})

    signature: Hex


class RefusedLegs(Answer):
    """The legs of a draft, by number, that an attestor would not sign."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"refused": [0, 3]}]})

    refused: list[int]


class LiveQuestion(Asked):
    """The accounts whose owners' live items are asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"accounts": ["0x" + ID.hex()]}]})

    accounts: list[Annotated[str, Field(max_length=200)]] = Field(max_length=1_000)


class LiveItems(Answer):
    """What an attestor knows to be live on any account of those owners."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": []}]})

    items: list[Annotated[PermitItem | LegItem, Wire()]]


class Added(Answer):
    """Whether a batch was new."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"added": True}]})

    added: bool
