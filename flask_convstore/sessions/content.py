"""Conversion of content that an app gives to JSON texts and elements, within the limits.

The title of a session and the cost of its messages are read from the messages on the way.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from ..domain import json_text, json_types
from ..domain.bodies import Bodies
from ..domain.clock import now_ms
from ..domain.json_search import shortened
from ..domain.messages import Message, Usage, facts_of, join_element
from ..domain.numbering import seq_in
from ..domain.results import Snapshot
from ..domain.shapes import Shape, full, key_of
from ..domain.titles import title_of
from ..domain.validation import check_message_id
from ..domain.value_types import has_tags
from ..errors import (
    InvalidInput,
    MessageIdReused,
    NotSerializable,
    TooLarge,
    data_too_large,
    message_too_large,
    too_many_fields,
)
from .type_changes import TypeChanges

MAX_FIELDS = 1000
"""Data fields of one write. Each costs the server about a microsecond, during which it serves nobody else."""

Content = Mapping[str, Any] | Sequence[Any]
"""A dict of fields, with the history under its key if it has one, or a bare list of messages. Mappings beside the sessions
may also hold any other JSON value, as the nameless field of a session."""


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """The keys of the history in a dict, and the limits of content in bytes of JSON text and levels of nesting.

    Attributes:
        history_key: The first key. Errors name it.
        other_keys: The keys that are tried behind it.
        has_titles: Titles are made of messages. Clients see a title, so it is made of no message that is hidden from them.
        is_tagged: New values are written so that types which JSON lacks come back.
        changes: Looks at the values that are written. None: the app converts them itself.
    """

    history_key: str
    max_message_bytes: int
    max_data_bytes: int
    max_metadata_depth: int
    other_keys: tuple[str, ...] = ()
    has_titles: bool = True
    is_tagged: bool = False
    changes: TypeChanges | None = None

    def for_shape(self, shape: Shape, former: Shape = "data") -> ContentLimits:
        """The limits for a session of that *shape*. Errors name the key of its history, or that of its *former* shape."""
        key = key_of(shape, self.history_key) or key_of(former, self.history_key)
        return self if key is None or key == self.history_key else _naming(self, key)


@lru_cache(maxsize=100)
def _naming(limits: ContentLimits, key: str) -> ContentLimits:
    return replace(limits, history_key=key, other_keys=())


NOTHING_STORED: Mapping[str, bytes] = {}

Given = tuple[bytes, dict[str, Any]]
"""A message as given: the JSON text of its body, and the other facts in its envelope."""


class Continued(NamedTuple):
    """Messages that begin with all those that were loaded, as they were.

    Attributes:
        more: The messages behind them.
        objects: The same as the app has them.
    """

    more: list[Given]
    objects: list[Any]


History = list[Given] | None
"""Messages. None: no history."""

Texts = tuple[Shape, dict[str, bytes], History]
"""The shape of a content, the JSON texts of its fields, and its messages."""


def texts(content: Any, limits: ContentLimits, known: Bodies | None = None, stored: Snapshot | None = None) -> Texts:
    """Convert *content* as ``changed_texts`` does, and list the messages in any case."""
    shape, fields, history = changed_texts(content, limits, known, stored)
    return shape, fields, listed(history, known)


def listed(history: History | Continued, known: Bodies | None) -> History:
    """List the messages for which a ``Continued`` stands."""
    if not isinstance(history, Continued):
        return history
    return _as_given(known.texts if known else []) + history.more


def changed_texts(
    content: Any, limits: ContentLimits, known: Bodies | None = None, stored: Snapshot | None = None
) -> tuple[Shape, dict[str, bytes], History | Continued]:
    """Convert *content*. Messages that begin with all the *known* ones are ``Continued``.

    Args:
        known: The texts with which its messages probably begin, since they were loaded.
        stored: The session as it was loaded. It remembers the key of its history, and what is stored with tags keeps them.

    Raises:
        InvalidInput: The content cannot be saved. The error has the place and the reason.
    """
    if type(content) is not dict and isinstance(content, dict) and not isinstance(content, json_text.Decoded):
        content = json_types.plain(content)
    if isinstance(content, (list, tuple)) and not (limits.is_tagged and type(content) is tuple):
        return "list", {}, _given(content, limits, known)
    if not isinstance(content, Mapping):
        is_tagged = limits.is_tagged or (stored is not None and has_tags(stored.fields.get("", b"")))
        return "value", {"": json_text.encode(content, is_tagged=is_tagged)}, None
    return _texts_of_dict(content, limits, known, stored)


def _texts_of_dict(
    content: Mapping[str, Any], limits: ContentLimits, known: Bodies | None, stored: Snapshot | None
) -> tuple[Shape, dict[str, bytes], History | Continued]:
    key = key_in(content, limits, stored)
    data = (json_text.Decoded if isinstance(content, json_text.Decoded) else dict)(content.items())
    if key is not None:
        data.pop(key, None)  # a mapping may find a key under another name
    fields = encoded_fields(data, limits, stored=stored.fields if stored else NOTHING_STORED)
    if key is None:
        return "data", fields, None
    is_own = stored is not None and key == key_of(stored.shape, limits.history_key)
    shape = stored.shape if stored and is_own else full(key)
    return shape, fields, _given(content[key], limits if key == limits.history_key else limits.for_shape(shape), known)


def key_in(content: Mapping[str, Any], limits: ContentLimits, stored: Snapshot | None) -> str | None:
    """Find the key of the history in *content*: that of the session as it is *stored*, else a new one. None: no history."""
    own = key_of(stored.shape, limits.history_key) if stored else None
    is_there = own is not None and isinstance(content.get(own), (list, tuple))
    return own if is_there else _new_key(content, limits, stored)


def _new_key(content: Mapping[str, Any], limits: ContentLimits, stored: Snapshot | None) -> str | None:
    """Choose the key of the history in *content*: the first one that holds a list. None: no history.

    A key that is a data field of the session stays one.
    """
    first = limits.history_key
    fields = stored.fields if stored else ()
    for key in (first, *limits.other_keys):
        if key in content and key not in fields and isinstance(content[key], (list, tuple)):
            return key
    # The value that is no list is refused under the first key.
    return first if first in content and first not in fields else None


def encoded_fields(
    data: Mapping[str, Any], limits: ContentLimits, path: str = "", stored: Mapping[str, bytes] = NOTHING_STORED
) -> dict[str, bytes]:
    """Encode each field. *path* is the place of *data*, for errors. What is *stored* with tags keeps them.

    Raises:
        NotSerializable: A name is no text, or JSON cannot hold a value.
    """
    fields = {}
    is_known = isinstance(data, json_text.Decoded)
    for name, value in data.items():
        if not isinstance(name, str):
            raise NotSerializable(
                f"the key {shortened(repr(name))} is no text. {_CURE_OF_NAMES}. Nothing was written.", path
            )
        place = f"{path}.{name}" if path else name
        if name not in stored:
            json_text.encode(name, path)  # refuses what is no text in UTF-8
        if is_known:
            text = json_text.encode_known(value)
        else:
            is_tagged = limits.is_tagged or (name in stored and has_tags(stored[name]))
            text = json_text.encode(value, place, is_tagged=is_tagged)
        fields[str.__str__(name)] = text  # of a StrEnum only the value is read back
    return fields


_CURE_OF_NAMES = "Make it a text, or keep the dict under a key of its own with CONVSTORE_TYPES=tagged"


def fields_to_set(data: Mapping[str, Any], limits: ContentLimits) -> tuple[tuple[str, bytes], ...]:
    """Encode fields that are to be set, together no more than one write may have.

    Raises:
        InvalidInput: They cannot be stored. The error has the place and the reason.
    """
    check_count(len(data))
    fields = tuple(encoded_fields(data, limits, "data").items())
    check_data_size(fields, limits)
    look_at_fields(data, data, limits)
    return fields


def look_at_fields(data: Any, names: Iterable[str], limits: ContentLimits) -> None:
    """Warn of types that JSON changes in the fields that are written."""
    if not limits.changes or isinstance(data, json_text.Decoded):
        return
    for name in names:
        value = data.get(name) if isinstance(data, Mapping) else data
        if not json_text.is_of_texts(value):
            limits.changes.look_at(value, name)


def check_count(count: int) -> None:
    """Refuse a write of so many data fields. That is told before any of them is looked at.

    Raises:
        TooLarge: There are too many.
    """
    if count > MAX_FIELDS:
        raise too_many_fields(MAX_FIELDS, count)


def check_data_size(fields: Collection[tuple[str, bytes]], limits: ContentLimits) -> None:
    """Refuse too many *fields*, or names and texts that are too large together.

    Raises:
        TooLarge: They are refused.
    """
    check_count(len(fields))
    size = 0
    for name, text in fields:
        size += len(name.encode()) + len(text)
    if size > limits.max_data_bytes:
        raise data_too_large(limits.max_data_bytes, size)


_NO_FACTS: dict[str, Any] = {}
"""The facts of most messages, one dict for all of them."""


def _as_given(texts: list[bytes]) -> list[Given]:
    return [(text, _NO_FACTS) for text in texts]


def _given(history: object, limits: ContentLimits, known: Bodies | None) -> list[Given] | Continued:
    if not isinstance(history, (list, tuple)):
        raise _no_history(history, limits)
    history = history if type(history) is list else list(history)
    if not (known and known.count):
        return _messages_given(history, limits, 0, limits.is_tagged)
    same = known.count_same(history, is_tagged=limits.is_tagged)
    if same == known.count:
        more = history[same:]
        return Continued(_messages_given(more, limits, same, limits.is_tagged) if more else [], more)
    is_tagged = limits.is_tagged or known.have_tags()
    texts = known.texts[:same] or _texts_left(history, known, limits, is_tagged)
    return _as_given(texts) + _messages_given(history[len(texts) :], limits, len(texts), is_tagged)


def _texts_left(history: list[Any], known: Bodies, limits: ContentLimits, is_tagged: bool) -> list[bytes]:
    """Find the texts of all messages from the first one of *history* on, where only the oldest were dropped."""
    left = known.from_text(_given_message(history[0], limits, 0, is_tagged)[0]) if history else None
    return left.texts if left and left.count_same(history, is_tagged=is_tagged) == left.count else []


def _messages_given(messages: list[Any], limits: ContentLimits, first_index: int, is_tagged: bool) -> list[Given]:
    given = [_given_message(one, limits, index, is_tagged) for index, one in enumerate(messages, first_index)]
    if len(given) > 1:
        refuse_twice([facts["id"] for _, facts in given if "id" in facts])
    return given


def _no_history(value: object, limits: ContentLimits) -> InvalidInput:
    cure = "Use another key for it, or name the key of the messages by history_key= or CONVSTORE_HISTORY_KEY"
    reason = f"a history is a list of messages, not a {type(value).__name__}. {cure}. Nothing was written."
    return InvalidInput(reason, limits.history_key)


def _given_message(message: Any, limits: ContentLimits, index: int, is_tagged: bool) -> Given:
    if not isinstance(message, Message):
        return _body_text(message, limits, index, is_tagged), _NO_FACTS
    facts = _facts_given(message, f"{limits.history_key}[{index}]")
    return _body_text(message.body, limits, index, is_tagged), facts


def refuse_twice(ids: Iterable[str]) -> None:
    """Refuse messages of one write with the same id.

    Raises:
        MessageIdReused: There are such messages.
    """
    seen: set[str] = set()
    for message_id in filter(None, ids):
        if message_id in seen:
            raise MessageIdReused(message_id)
        seen.add(message_id)


def _body_text(body: Any, limits: ContentLimits, index: int, is_tagged: bool) -> bytes:
    try:
        return json_text.encode(body, is_tagged=is_tagged)
    except NotSerializable:
        json_text.encode(body, f"{limits.history_key}[{index}]", is_tagged=is_tagged)  # raises with the place
        raise


def elements_of(history: list[Given], limits: ContentLimits, first_index: int = 0) -> list[bytes]:
    """Make the elements of new messages. *first_index* is the place of the first one, for errors."""
    now, elements = now_ms(), []
    for index, (body, facts) in enumerate(history, first_index):
        if facts:
            check_facts(facts, f"{limits.history_key}[{index}]", limits)
        element = join_element(now, body, facts, is_tagged=limits.is_tagged)
        if len(element) > limits.max_message_bytes:
            raise too_large(element, limits, index)
        elements.append(element)
    return elements


def _facts_given(message: Message, path: str) -> dict[str, Any]:
    """Collect the facts of a message that the app gives. An id of ours, from where it was stored before, stays there."""
    facts = facts_of(message)
    if "id" in facts:
        if message.seq and seq_in(message.id):
            del facts["id"]
        else:
            check_message_id(message.id, f"{path}.id")
    return facts


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
    now, largest, elements, first_title, usage, ids = now_ms(), limits.max_message_bytes, [], "", None, []
    for index, message in enumerate(messages):
        body = message
        if json_text.is_of_texts(message):
            text = json_text.encode_texts(message) or _body_text(message, limits, index, limits.is_tagged)
            element = join_element(now, text)
        else:
            body, facts, element = _added_element(message, limits, index, now)
            usage = _sum(usage, facts)
            ids.append(facts.get("id", ""))
        if len(element) > largest:
            raise too_large(element, limits, index)
        elements.append(element)
        if not first_title and limits.has_titles and b'"user"' in element:
            first_title = _title_of(body, element)
    if len(ids) > 1:
        refuse_twice(ids)
    return Added(tuple(elements), first_title, usage)


def _added_element(message: Any, limits: ContentLimits, index: int, now: int) -> tuple[Any, Mapping[str, Any], bytes]:
    """Make the element of any message that is added, and warn of types that JSON changes in it."""
    body, facts = message, _NO_FACTS
    if isinstance(message, Message):
        body, facts = message.body, _facts_given(message, f"{limits.history_key}[{index}]")
        check_facts(facts, f"{limits.history_key}[{index}]", limits)
    text = _body_text(body, limits, index, limits.is_tagged)
    if limits.changes and not json_text.is_of_texts(body) and not _knows_json(body):
        limits.changes.look_at(body, limits.history_key, f"{limits.history_key}[{index}]")
    return body, facts, join_element(now, text, facts, is_tagged=limits.is_tagged)


def _knows_json(body: Any) -> bool:
    """Tell the objects of SDKs, which are given to be written as JSON."""
    return not isinstance(body, (dict, str, list)) and any(hasattr(body, name) for name in ("model_dump", "to_dict"))


def look_at_messages(content: Any, indexes: Iterable[int], limits: ContentLimits) -> None:
    """Warn of types that JSON changes in the messages that are written."""
    if limits.changes:
        history = content.get(limits.history_key, ()) if isinstance(content, Mapping) else content
        for index in indexes:
            if not json_text.is_of_texts(history[index]):
                limits.changes.look_at_messages([history[index]], limits.history_key, index)


def first_title_of(given: Iterable[Given], limits: ContentLimits, bodies: Iterable[Any] = ()) -> str:
    """Make a title from the first message that gives one. "" if none does.

    Args:
        bodies: The same messages before they were encoded. A large one is then not decoded again.
    """
    if not limits.has_titles:
        return ""
    for (text, _), one in itertools.zip_longest(given, bodies):
        if b'"user"' in text:
            title = _title_of(one.body if isinstance(one, Message) else one, text)
            if title:
                return title
    return ""


def _title_of(body: Any, stored: bytes) -> str:
    """Make the title that a message gives as it is *stored*: its text or its element. A large one is not decoded again."""
    is_plain = type(body) is dict and type(body.get("role")) is type(body.get("content")) is str
    is_json = is_plain or type(body) is json_text.Decoded
    return title_of(body if is_json else json_text.decode(stored.rpartition(b"\n")[2]))


def usage_of(given: Iterable[Given]) -> Usage | None:
    """Add up the cost of messages. None if no message tells its cost."""
    usage = None
    for _, facts in given:
        if facts:
            usage = _sum(usage, facts)
    return usage


def _sum(usage: Usage | None, facts: Mapping[str, Any]) -> Usage | None:
    """Add the cost of one more message to *usage*."""
    if "tokens" not in facts:
        return usage
    before = usage or Usage()
    more = Usage(*facts["tokens"])
    return Usage(before.input + more.input, before.output + more.output)
