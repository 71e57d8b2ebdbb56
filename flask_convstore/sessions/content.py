"""What an app gives > JSON texts, and messages as the history keeps them, within the limits.

What messages tell of their session, a title and what they cost, is read from them on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..domain import json_text
from ..domain.clock import now_ms
from ..domain.messages import Message, Usage, facts_of, join_element
from ..domain.types import Shape
from ..errors import InvalidInput, NotSerializable, TooLarge

MAX_FIELDS = 1000
"""Data fields of one write. Each costs the server about a microsecond, during which it serves nobody else."""

Content = Mapping[str, Any] | Sequence[Any]
"""A dict of fields, with the history under its key if it has one, or a bare list of messages. Mappings beside the sessions
may also hold any other JSON value, as the nameless field of a session."""


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """How content is given: the key of the history in a dict, and the limits: bytes of JSON text, levels of nesting."""

    history_key: str
    max_message_bytes: int
    max_data_bytes: int
    max_metadata_depth: int


Given = tuple[bytes, dict[str, Any]]
"""A message as given: the JSON text of its body, and what else its envelope holds."""

Texts = tuple[Shape, dict[str, bytes], list[Given] | None]
"""The shape of a content, the JSON texts of its fields, and its messages; None if it has no history."""


def texts(content: Any, form: ContentLimits, known: list[bytes] | None = None) -> Texts:
    """What *content* is made of.

    Args:
        known: The texts with which its messages probably begin, since they were loaded so.

    Raises:
        InvalidInput: It cannot be saved; the error says where and why.
    """
    if isinstance(content, (list, tuple)):
        return "list", {}, _given(content, form, known)
    if not isinstance(content, Mapping):
        return "value", {"": json_text.encode(content)}, None
    fields = encoded_fields({name: value for name, value in content.items() if name != form.history_key}, form)
    if form.history_key not in content:
        return "data", fields, None
    return "full", fields, _given(content[form.history_key], form, known)


def encoded_fields(data: Mapping[str, Any], form: ContentLimits, path: str = "") -> dict[str, bytes]:
    """The JSON text of each field; *path* is where *data* lies, for errors.

    Raises:
        NotSerializable: A name is no text, or JSON cannot hold a value.
        InvalidInput: A field has the name of the history.
    """
    fields = {}
    for name, value in data.items():
        if not isinstance(name, str):
            raise NotSerializable(f"the key {name!r} is no text; nothing was written", path)
        place = f"{path}.{name}" if path else name
        if name == form.history_key:
            raise InvalidInput("this is the key of the history, not of a field; nothing was written", place)
        json_text.encode(name, path)
        fields[str.__str__(name)] = json_text.encode(
            value, place
        )  # a StrEnum's value, which alone is what is read back
    return fields


def fields_to_set(data: Mapping[str, Any], form: ContentLimits) -> tuple[tuple[str, bytes], ...]:
    """The names and texts of fields that are to be set, together no more than a write may have.

    Raises:
        InvalidInput: They cannot be stored; the error says where and why.
    """
    fields = tuple(encoded_fields(data, form, "data").items())
    check_data_size(fields, form)
    return fields


def check_data_size(fields: Iterable[tuple[str, bytes | None]], form: ContentLimits) -> None:
    """TooLarge if *fields* are too many, or their names and texts are over the limit."""
    given = [(name, text) for name, text in fields if text is not None]
    if len(given) > MAX_FIELDS:
        raise TooLarge("there are too many data fields", limit=MAX_FIELDS, size=len(given))
    size = sum(len(name.encode()) + len(text) for name, text in given)
    if size > form.max_data_bytes:
        raise TooLarge("the data is too large in bytes of JSON", limit=form.max_data_bytes, size=size)


_NO_FACTS: dict[str, Any] = {}
"""Of most messages: one dict for all of them."""


def _given(history: object, form: ContentLimits, known: list[bytes] | None) -> list[Given]:
    if not isinstance(history, (list, tuple)):
        kind = type(history).__name__
        cure = "use another key for it, or name that of the messages by history_key= or CONVSTORE_HISTORY_KEY"
        raise InvalidInput(
            f"a history is a list of messages, not a {kind}: {cure}; nothing was written", form.history_key
        )
    same = len(known) if known and json_text.is_encoded(history[: len(known)], known) else 0
    rest = ((one.body, facts_of(one)) if isinstance(one, Message) else (one, _NO_FACTS) for one in history[same:])
    given = [(_body_text(body, form, index), facts) for index, (body, facts) in enumerate(rest, same)]
    return [(text, _NO_FACTS) for text in known[:same]] + given if known else given


def _body_text(body: Any, form: ContentLimits, index: int) -> bytes:
    try:
        return json_text.encode(body)
    except NotSerializable:
        json_text.encode(body, f"{form.history_key}[{index}]")  # says where
        raise


def elements_of(history: list[Given], form: ContentLimits, first_index: int = 0) -> Iterator[bytes]:
    """New messages as the history keeps them; *first_index* is the place of the first one, for errors."""
    now = now_ms()
    for index, (body, facts) in enumerate(history, first_index):
        if facts:
            check_facts(facts, f"{form.history_key}[{index}]", form)
        element = join_element(now, body, facts)
        if len(element) > form.max_message_bytes:
            raise too_large(element, form, index)
        yield element


def check_element(element: bytes, message: Message, form: ContentLimits) -> None:
    """InvalidInput if a message that is to take another one's place is not what it should be."""
    check_facts(facts_of(message), "message", form)
    if len(element) > form.max_message_bytes:
        raise too_large(element, form, 0)


def check_facts(facts: Mapping[str, Any], path: str, form: ContentLimits) -> None:
    """InvalidInput if what a message tells beside its body is not what it should be."""
    if "metadata" in facts:
        json_text.check_depth(facts["metadata"], f"{path}.metadata", form.max_metadata_depth)
    for count in facts.get("tokens", ()):
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**50:
            reason = f"tokens are counted in whole numbers, 0 or more, not {count!r}; nothing was written"
            raise InvalidInput(reason, f"{path}.tokens")


def too_large(element: bytes, form: ContentLimits, index: int) -> TooLarge:
    """What is raised for a message that is over the limit."""
    path = f"{form.history_key}[{index}]"
    return TooLarge("the message is too large in bytes of JSON", path, limit=form.max_message_bytes, size=len(element))


class Added(NamedTuple):
    """Messages to add, as the history keeps them, and what they tell of their session."""

    elements: tuple[bytes, ...]
    first_title: str
    usage: Usage | None


def added(messages: Sequence[Any], form: ContentLimits) -> Added:
    """Bodies, or ``Message`` objects with metadata, accepted now.

    Raises:
        NotSerializable: JSON cannot hold one; the error says which.
        TooLarge: One is over the limit.
    """
    now, elements, first_title, usage = now_ms(), [], "", None
    for index, message in enumerate(messages):
        body, facts = (message.body, facts_of(message)) if isinstance(message, Message) else (message, _NO_FACTS)
        if facts:
            check_facts(facts, f"{form.history_key}[{index}]", form)
            usage = _sum(usage, facts)
        element = join_element(now, _body_text(body, form, index), facts)
        if len(element) > form.max_message_bytes:
            raise too_large(element, form, index)
        elements.append(element)
        first_title = first_title or title_of(body)
    return Added(tuple(elements), first_title, usage)


_LONGEST_TITLE = 60
_LOOKED_AT = 200
"""Characters: of a title, and of each part of a message that one is made of."""


def title_of(body: Any) -> str:
    """How a conversation is called that begins with *body*: the beginning of a user's text; "" if it is none."""
    if not isinstance(body, dict) or body.get("role") != "user":
        return ""
    content = body.get("content", body.get("parts"))
    words: list[str] = []
    for part in content if isinstance(content, list) else (content,):
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            words += text[:_LOOKED_AT].split()
    title = " ".join(words)
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 1].rstrip()}…"


def first_title_of(given: Iterable[Given]) -> str:
    """The title that the first of the messages gives which gives any; ""."""
    for body, _ in given:
        title = title_of(json_text.decode(body)) if b'"user"' in body else ""
        if title:
            return title
    return ""


def usage_of(given: Iterable[Given]) -> Usage | None:
    """What the messages cost together; None if none tells."""
    usage = None
    for _, facts in given:
        usage = _sum(usage, facts)
    return usage


def _sum(usage: Usage | None, facts: Mapping[str, Any]) -> Usage | None:
    """*usage*, and that of one more message, if it tells of any."""
    if "tokens" not in facts:
        return usage
    before = usage or Usage()
    more = Usage(*facts["tokens"])
    return Usage(before.input + more.input, before.output + more.output)
