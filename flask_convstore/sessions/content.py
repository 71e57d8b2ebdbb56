"""Conversion of content that an app gives to JSON texts and elements, within the limits.

The title of a session and the cost of its messages are read from the messages on the way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..domain import json_text, json_types
from ..domain.clock import now_ms
from ..domain.json_search import shortened
from ..domain.messages import Message, Usage, facts_of, join_element
from ..domain.types import Shape
from ..domain.validation import without_controls
from ..errors import (
    InvalidInput,
    NotSerializable,
    TooLarge,
    data_too_large,
    message_too_large,
    too_many_fields,
)

MAX_FIELDS = 1000
"""Data fields of one write. Each costs the server about a microsecond, during which it serves nobody else."""

Content = Mapping[str, Any] | Sequence[Any]
"""A dict of fields, with the history under its key if it has one, or a bare list of messages. Mappings beside the sessions
may also hold any other JSON value, as the nameless field of a session."""


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """The key of the history in a dict, and the limits of content in bytes of JSON text and levels of nesting.

    Attributes:
        has_titles: Titles are made of messages. Clients see a title, so it is made of no message that is hidden from them.
    """

    history_key: str
    max_message_bytes: int
    max_data_bytes: int
    max_metadata_depth: int
    has_titles: bool = True


Given = tuple[bytes, dict[str, Any]]
"""A message as given: the JSON text of its body, and the other facts in its envelope."""

Texts = tuple[Shape, dict[str, bytes], list[Given] | None]
"""The shape of a content, the JSON texts of its fields, and its messages. None instead of messages: no history."""


def texts(content: Any, limits: ContentLimits, known: list[bytes] | None = None) -> Texts:
    """Convert *content*.

    Args:
        known: The texts with which its messages probably begin, since they were loaded.

    Raises:
        InvalidInput: The content cannot be saved. The error has the place and the reason.
    """
    if isinstance(content, dict) and type(content) is not json_text.Decoded:
        content = json_types.plain(content)
    if isinstance(content, (list, tuple)):
        return "list", {}, _given(content, limits, known)
    if not isinstance(content, Mapping):
        return "value", {"": json_text.encode(content)}, None
    others = {name: value for name, value in list(content.items()) if name != limits.history_key}
    if isinstance(content, json_text.Decoded):
        others = json_text.Decoded(others)
    fields = encoded_fields(others, limits)
    if limits.history_key not in content:
        return "data", fields, None
    return "full", fields, _given(content[limits.history_key], limits, known)


def encoded_fields(data: Mapping[str, Any], limits: ContentLimits, path: str = "") -> dict[str, bytes]:
    """Encode each field. *path* is the place of *data*, for errors.

    Raises:
        NotSerializable: A name is no text, or JSON cannot hold a value.
        InvalidInput: A field has the name of the history.
    """
    fields = {}
    encode = json_text.encode_known if isinstance(data, json_text.Decoded) else json_text.encode
    for name, value in data.items():
        if not isinstance(name, str):
            raise NotSerializable(f"the key {shortened(repr(name))} is no text. Nothing was written.", path)
        place = f"{path}.{name}" if path else name
        if name == limits.history_key:
            raise InvalidInput("this is the key of the history, not of a field. Nothing was written.", place)
        json_text.encode(name, path)
        # Of a StrEnum only the value is read back.
        fields[str.__str__(name)] = encode(value, place)
    return fields


def fields_to_set(data: Mapping[str, Any], limits: ContentLimits) -> tuple[tuple[str, bytes], ...]:
    """Encode fields that are to be set, together no more than one write may have.

    Raises:
        InvalidInput: They cannot be stored. The error has the place and the reason.
    """
    check_count(len(data))
    fields = tuple(encoded_fields(data, limits, "data").items())
    check_data_size(fields, limits)
    return fields


def check_count(count: int) -> None:
    """Refuse a write of so many data fields. That is told before any of them is looked at.

    Raises:
        TooLarge: There are too many.
    """
    if count > MAX_FIELDS:
        raise too_many_fields(MAX_FIELDS, count)


def check_data_size(fields: Iterable[tuple[str, bytes | None]], limits: ContentLimits) -> None:
    """Refuse too many *fields*, or names and texts that are too large together.

    Raises:
        TooLarge: They are refused.
    """
    given = [(name, text) for name, text in fields if text is not None]
    check_count(len(given))
    size = sum(len(name.encode()) + len(text) for name, text in given)
    if size > limits.max_data_bytes:
        raise data_too_large(limits.max_data_bytes, size)


_NO_FACTS: dict[str, Any] = {}
"""The facts of most messages, one dict for all of them."""


def _given(history: object, limits: ContentLimits, known: list[bytes] | None) -> list[Given]:
    if not isinstance(history, (list, tuple)):
        kind = type(history).__name__
        cure = "Use another key for it, or name the key of the messages by history_key= or CONVSTORE_HISTORY_KEY"
        raise InvalidInput(
            f"a history is a list of messages, not a {kind}. {cure}. Nothing was written.", limits.history_key
        )
    same = len(known) if known and json_text.is_encoded(history[: len(known)], known) else 0
    rest = ((one.body, facts_of(one)) if isinstance(one, Message) else (one, _NO_FACTS) for one in history[same:])
    given = [(_body_text(body, limits, index), facts) for index, (body, facts) in enumerate(rest, same)]
    return [(text, _NO_FACTS) for text in known[:same]] + given if known else given


def _body_text(body: Any, limits: ContentLimits, index: int) -> bytes:
    try:
        return json_text.encode(body)
    except NotSerializable:
        json_text.encode(body, f"{limits.history_key}[{index}]")  # raises with the place
        raise


def elements_of(history: list[Given], limits: ContentLimits, first_index: int = 0) -> Iterator[bytes]:
    """Make the elements of new messages. *first_index* is the place of the first one, for errors."""
    now = now_ms()
    for index, (body, facts) in enumerate(history, first_index):
        if facts:
            check_facts(facts, f"{limits.history_key}[{index}]", limits)
        element = join_element(now, body, facts)
        if len(element) > limits.max_message_bytes:
            raise too_large(element, limits, index)
        yield element


def check_element(element: bytes, message: Message, limits: ContentLimits) -> None:
    """Refuse a message that is to take another one's place, where it is too large or its facts are bad."""
    check_facts(facts_of(message), "message", limits)
    if len(element) > limits.max_message_bytes:
        raise too_large(element, limits, 0)


def check_facts(facts: Mapping[str, Any], path: str, limits: ContentLimits) -> None:
    """Refuse bad facts of a message."""
    if "metadata" in facts:
        json_text.check_depth(facts["metadata"], f"{path}.metadata", limits.max_metadata_depth)
    for count in facts.get("tokens", ()):
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**50:
            reason = f"tokens are counted in whole numbers, 0 or more, not {count!r}. Nothing was written."
            raise InvalidInput(reason, f"{path}.tokens")


def too_large(element: bytes, limits: ContentLimits, index: int) -> TooLarge:
    """Make the error for a message that is over the limit."""
    path = f"{limits.history_key}[{index}]"
    return message_too_large(limits.max_message_bytes, len(element), path)


class Added(NamedTuple):
    """Elements to add, with the title that they give to a session without one, and their cost."""

    elements: tuple[bytes, ...]
    first_title: str
    usage: Usage | None


def added(messages: Sequence[Any], limits: ContentLimits) -> Added:
    """Convert messages that are accepted now: bodies, or ``Message`` objects with metadata.

    Raises:
        NotSerializable: JSON cannot hold one. The error has its place.
        TooLarge: One is over the limit.
    """
    now, elements, first_title, usage = now_ms(), [], "", None
    for index, message in enumerate(messages):
        body, facts = (message.body, facts_of(message)) if isinstance(message, Message) else (message, _NO_FACTS)
        if facts:
            check_facts(facts, f"{limits.history_key}[{index}]", limits)
            usage = _sum(usage, facts)
        element = join_element(now, _body_text(body, limits, index), facts)
        if len(element) > limits.max_message_bytes:
            raise too_large(element, limits, index)
        elements.append(element)
        first_title = first_title or (title_of(body) if limits.has_titles else "")
    return Added(tuple(elements), first_title, usage)


TITLED_ROLE = "user"
"""Role of the message that a title is made of."""
_LONGEST_TITLE = 60
_LOOKED_AT = 200
"""Parts of a message, and characters of each part, that a title is made of."""


def title_of(body: Any) -> str:
    """Make the title of a conversation that begins with *body*: the beginning of a user's text, or "" for other bodies."""
    if not isinstance(body, dict) or body.get("role") != TITLED_ROLE:
        return ""
    content = body.get("content", body.get("parts"))
    words: list[str] = []
    for part in content[:_LOOKED_AT] if isinstance(content, list) else (content,):
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            words += text[:_LOOKED_AT].split()
    title = without_controls(" ".join(words))
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 1].rstrip()}…"


def first_title_of(given: Iterable[Given], limits: ContentLimits, bodies: Iterable[Any] = ()) -> str:
    """Make a title from the first message that gives one. "" if none does.

    Args:
        bodies: The same messages before they were encoded. A large one is then not decoded again.
    """
    if not limits.has_titles:
        return ""
    for (text, _), one in itertools.zip_longest(given, bodies):
        if b'"user"' in text:
            body = one.body if isinstance(one, Message) else one
            title = title_of(body if isinstance(body, dict) else json_text.decode(text))
            if title:
                return title
    return ""


def usage_of(given: Iterable[Given]) -> Usage | None:
    """Add up the cost of messages. None if no message tells its cost."""
    usage = None
    for _, facts in given:
        usage = _sum(usage, facts)
    return usage


def _sum(usage: Usage | None, facts: Mapping[str, Any]) -> Usage | None:
    """Add the cost of one more message to *usage*."""
    if "tokens" not in facts:
        return usage
    before = usage or Usage()
    more = Usage(*facts["tokens"])
    return Usage(before.input + more.input, before.output + more.output)
