"""Types become JSON Schema: each kind of type that the answers use, and an unknown one is an error."""

from __future__ import annotations

import doctest
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from flask_convstore.http import json_schema
from flask_convstore.http.json_schema import Positive, Whole, component, component_name, schema


class PartJson(TypedDict):
    """A part."""

    name: Annotated[str, "Its name."]
    count: NotRequired[Annotated[Whole, "How many.", {"maximum": 9}]]


class WholeJson(PartJson):
    parts: list[PartJson]


@pytest.mark.parametrize(
    ("hint", "shape"),
    [
        (str, {"type": "string"}),
        (float | None, {"type": ["number", "null"]}),
        (Any, {}),
        (Positive, {"type": "integer", "minimum": 1}),
        (
            Annotated[Positive, "One.", {"maximum": 1}],
            {"type": "integer", "minimum": 1, "description": "One.", "maximum": 1},
        ),
        (Literal["gone"], {"const": "gone"}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (list[bool], {"type": "array", "items": {"type": "boolean"}}),
        (dict[str, Any], {"type": "object", "additionalProperties": True}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (PartJson, {"$ref": "#/components/schemas/Part"}),
        (PartJson | None, {"anyOf": [{"$ref": "#/components/schemas/Part"}, {"type": "null"}]}),
    ],
)
def test_a_type_becomes_a_schema(hint: Any, shape: Any) -> None:
    assert schema(hint) == shape


def test_a_description_and_keywords_are_added() -> None:
    assert schema(str, "A text.", maxLength=3) == {"type": "string", "description": "A text.", "maxLength": 3}


def test_a_typed_dict_becomes_a_component() -> None:
    assert (component_name(PartJson), component_name(WholeJson)) == ("Part", "Whole")
    part = {
        "type": "object",
        "description": "A part.",
        "properties": {
            "name": {"type": "string", "description": "Its name."},
            "count": {"type": "integer", "minimum": 0, "description": "How many.", "maximum": 9},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    assert component(PartJson) == part
    assert component(PartJson, is_open=True) == {**part, "additionalProperties": True}
    whole = component(WholeJson)
    assert whole["required"] == ["name", "parts"]
    assert whole["properties"]["parts"] == {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}


def test_a_type_that_json_has_not_is_an_error() -> None:
    with pytest.raises(KeyError):
        schema(bytes)


def test_the_examples_hold() -> None:
    outcome = doctest.testmod(json_schema)
    assert outcome.attempted
    assert not outcome.failed
