"""Values that callers may give. The bounds themselves are in, and a value beyond is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest

from flask_convstore import InvalidInput
from flask_convstore.domain.messages import Message
from flask_convstore.domain.validation import check_lifetime, check_title, check_whole

from ..harness import PlainConversations


@pytest.mark.parametrize("number", [1, 2, 1000])
def test_a_whole_number_within_its_bounds(number: int) -> None:
    check_whole(number, "limit", 1, 1000)
    check_whole(number, "limit", 1)


@pytest.mark.parametrize("number", [0, -1, 1001, 1.0, True, "1", None])
def test_what_is_no_whole_number_within_its_bounds(number: object) -> None:
    with pytest.raises(InvalidInput, match="1 to 1,000") as caught:
        check_whole(number, "limit", 1, 1000)
    assert caught.value.path == "limit"


@pytest.mark.parametrize("seconds", [0.5, 11, float("nan"), True, "5", None])
def test_what_is_no_lifetime(seconds: object) -> None:
    check_lifetime(10, 10)
    with pytest.raises(InvalidInput, match="1 to 10 seconds"):
        check_lifetime(seconds, 10)


def test_a_title_may_be_none() -> None:
    assert check_title("") == ""
    assert check_title("x" * 200) == "x" * 200
    title: Any
    for title in ("x" * 201, "a\nb", 5, 0, None):
        with pytest.raises(InvalidInput, match="title"):
            check_title(title)


@pytest.mark.parametrize("version", ["1", -1, True, 1.0])
def test_a_version_is_a_whole_number(conversations: PlainConversations, version: Any) -> None:
    conversations.save_session("s", {"history": []})
    with pytest.raises(InvalidInput, match="expected_version"):
        conversations.append("s", Message("hi"), expected_version=version)
