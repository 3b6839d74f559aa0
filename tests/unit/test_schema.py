"""The models of the interface: each has an example that it reads and gives back, and describes what the wire has."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from keeper import schema
from keeper.schema.base import Amount, Hex32

ANSWERED = (
    *(schema.Account, schema.AccountProof, schema.Added, schema.Deployment, schema.Health, schema.Liquidations),
    *(schema.LiveItems, schema.LiveQuestion, schema.MarkProof, schema.NettingFigures, schema.Problem, schema.Ready),
    *(schema.RefusedLegs, schema.Signature, schema.SignedPermit, schema.Status, schema.Unready, schema.WhatIf),
    schema.WhatIfRequest,
)


@pytest.mark.parametrize("model", ANSWERED, ids=lambda model: model.__name__)
def test_every_model_has_an_example_that_it_reads_and_gives_back(model: type[BaseModel]) -> None:
    examples = model.model_json_schema()["examples"]
    assert examples
    for example in examples:
        read = model.model_validate(example)
        assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == example


def test_amounts_are_exact_and_nothing_else_passes_for_one() -> None:
    amount = TypeAdapter(Amount)
    assert amount.validate_python(str(2**255)) == 2**255
    assert amount.dump_python(2**255, mode="json") == str(2**255)
    for wrong in ("1_000", " 7", "7 ", "\uff17", "+7", "1e3", "", "9" * 79, 1.0, True, None, 2**256):
        with pytest.raises(ValidationError):
            amount.validate_python(wrong)


def test_ids_have_their_length() -> None:
    wide = TypeAdapter(Hex32)
    assert wide.validate_python("0x" + "aB" * 32) == b"\xab" * 32
    for wrong in ("ab" * 32, "0x" + "ab" * 31, "0x" + "ab" * 33, "0x" + "zz" * 32, 5):
        with pytest.raises(ValidationError):
            wide.validate_python(wrong)


def test_a_value_of_the_protocol_is_described_to_its_last_member() -> None:
    described = schema.SignedPermit.model_json_schema()
    item = described["properties"]["item"]
    assert item["additionalProperties"] is False
    assert set(item["properties"]) == {"type", "chainId", "permit", "action", "signatures", "orders"}
    assert set(item["required"]) == {"chainId", "permit", "action", "signatures"}
    move = described["$defs"]["Move"]["properties"]
    assert set(move) == {"type", "from", "to", "asset", "amount"}
    assert move["amount"]["pattern"] == "^-?[0-9]{1,78}$"
    assert described["$defs"]["Permit"]["properties"]["deadline"]["type"] == "integer"
