"""The table of problems: every error has one status, and the text that clients see gives nothing away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_convstore import ChangesDropped, ConflictError, ConvstoreError, StoreError
from flask_convstore.errors import StreamBehind, TurnUnended
from flask_convstore.http.problems import PRECONDITION_FAILED, PROBLEMS, Problem, problem_json


def kinds(base: type[ConvstoreError]) -> Iterator[type[ConvstoreError]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("flask_convstore."):
            yield kind
            yield from kinds(kind)


def test_every_error_has_a_row() -> None:
    not_raised, caught_within = {StoreError, ChangesDropped}, {StreamBehind, TurnUnended}
    found = set(kinds(ConvstoreError)) - not_raised - caught_within
    assert len(found) > 25
    for kind in found:
        assert any(base in PROBLEMS for base in kind.__mro__), kind


@pytest.mark.parametrize("row", [*PROBLEMS.values(), PRECONDITION_FAILED], ids=lambda row: row.label or row.slug)
def test_a_row_is_what_its_example_becomes(row: Problem) -> None:
    body, retry_after = problem_json(row.example, if_match=row is PRECONDITION_FAILED)
    assert (body["type"], body["status"], body["title"]) == (f"urn:convstore:{row.slug}", row.status, row.title)
    assert body["detail"] == (row.detail or str(row.example))
    assert (retry_after is not None) == (row.example.retry_after_ms is not None)


def test_an_if_match_is_about_the_version_only() -> None:
    version = ConflictError("s", "version", expected=1, actual=2)
    field = ConflictError("s", "version", expected=1, actual=2, is_field=True)
    history = ConflictError("s", "history", expected=1, actual=2)
    statuses = [problem_json(error, if_match=True)[0]["status"] for error in (version, field, history)]
    assert statuses == [412, 409, 409]
    assert problem_json(version, if_match=False)[0]["status"] == 409
