"""A message, and the *element* that a history keeps of it.

An element is a version byte, the message's envelope as JSON, a newline, its body as JSON. Scripts look into no body, but
for the role of the first messages where the oldest go. In an envelope they write only the status, which stands last.
"""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from ..errors import CorruptValue
from . import json_text
from .clock import as_datetime, now_ms
from .numbering import id_of
from .value_types import has_tags


class Usage(NamedTuple):
    """Cost of messages in tokens of a language model: input and output."""

    input: int = 0
    output: int = 0


NO_USAGE = Usage()

_ELEMENT_VERSION = b"1"
_PLAIN = len(b'1{"at":1800000000000}\n')
"""Length of the first line of most elements, which holds a time and nothing else."""
_BODY = operator.itemgetter(slice(_PLAIN, None))


@dataclass(frozen=True, slots=True)
class Message:
    """A body, the app's JSON, in its envelope. ``message["content"]`` and ``message.get("name")`` read the body.

    ``Message(body, id="…", metadata={…}, tokens=Usage(12, 30))`` may be appended instead of a bare body.

    Attributes:
        id: Its name, unique in its session. It stays the same as long as the message is stored. ``msg-<seq>`` where the app
            gives none, or ``msg-j`` and 16 digits where the store was away. "" before it is stored.
        tokens: Cost in tokens of a language model. Sums are kept with the session.
        edits: Earlier bodies, oldest first, where they were to be kept.
        seq: Its number in the session, from 1, never used again. 0 before it is stored.
        created_at_ms: Time when the app accepted it, by that host's clock.
        status: The fate of its turn or of its body, one of ``STATUSES``. None in the usual case.
    """

    body: Any
    metadata: dict[str, Any] | None = None
    seq: int = 0
    created_at_ms: int = 0
    status: str | None = None
    tokens: Usage | None = None
    edited_at_ms: int | None = None
    edits: tuple[Any, ...] = ()
    id: str = ""

    def __post_init__(self) -> None:
        if self.seq and not self.id:
            object.__setattr__(self, "id", id_of(self.seq))

    def __getitem__(self, key: str) -> Any:
        return self.body[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Get the body's *key*, or *default* if the body has none, or is no dict."""
        return self.body.get(key, default) if isinstance(self.body, dict) else default

    @property
    def created_at(self) -> datetime:
        """Time when the app accepted it, UTC."""
        return as_datetime(self.created_at_ms)

    @property
    def edited_at(self) -> datetime | None:
        """Time when its body was last replaced, UTC. None if it never was."""
        return None if self.edited_at_ms is None else as_datetime(self.edited_at_ms)


def join_element(
    created_at_ms: int, body: bytes, facts: Mapping[str, Any] | None = None, *, is_tagged: bool = False
) -> bytes:
    """Make the element of a new message. *body* is JSON text, *facts* stand in the envelope beside the time."""
    if not facts:
        return b'%b{"at":%d}\n%b' % (_ELEMENT_VERSION, created_at_ms, body)
    envelope: dict[str, Any] = {"at": created_at_ms, **facts}
    if isinstance(facts.get("metadata"), json_text.Decoded):
        envelope = json_text.Decoded(envelope)
    return b"%b%b\n%b" % (_ELEMENT_VERSION, json_text.encode(envelope, is_tagged=is_tagged), body)


_OWN_ID = re.compile(rb'1\{"at":\d+,"id":"([^"]+)"')


_TIME_AND_ID = re.compile(rb'1\{"at":\d+(,"id":"[^"]+")?')


has_own_id = _OWN_ID.match
"""Tell whether a message was given an id: something true if it was."""


def own_id(element: bytes) -> str:
    """Read the id that a message was given. "" if it has the one of its seq."""
    found = _OWN_ID.match(element)
    return found[1].decode() if found else ""


def with_id(element: bytes, message_id: str) -> bytes:
    """Give a message that has no id of its own one. The id stands behind the time, where scripts read and write it."""
    found = _TIME_AND_ID.match(element)
    assert found
    if found[1]:
        return element
    end = found.end()
    return b'%b,"id":"%b"%b' % (element[:end], message_id.encode(), element[end:])


def facts_of(message: Message) -> dict[str, Any]:
    """Collect the facts that the envelope of *message* holds beside its time."""
    facts: dict[str, Any] = {}
    if message.id and message.id != id_of(message.seq):
        facts["id"] = message.id
    if message.metadata is not None:
        facts["metadata"] = message.metadata
    if message.tokens is not None:
        facts["tokens"] = [message.tokens.input, message.tokens.output]
    return facts


def tokens_of(element: bytes) -> Usage | None:
    """Read the cost of a message from its element. None if it tells none."""
    head = element[len(_ELEMENT_VERSION) : max(0, element.find(b"\n"))]
    tokens = json_text.decode(head).get("tokens") if b'"tokens"' in head else None
    return Usage(*tokens) if tokens else None


def edited_element(element: bytes, message: Message, *, is_tagged: bool = False) -> bytes:
    """Make the element of *message*, which was *element* before and is edited at this moment. Tags in it are kept."""
    is_tagged = is_tagged or has_tags(element)
    head, _, _ = element.partition(b"\n")
    envelope = json_text.decode(head[len(_ELEMENT_VERSION) :])
    facts = {**facts_of(message), "edited_at": now_ms()}
    if message.edits:
        facts["edits"] = list(message.edits)
    body = json_text.encode(message.body, is_tagged=is_tagged)
    edited = join_element(int(envelope["at"]), body, facts, is_tagged=is_tagged)
    return with_status(edited, message.status) if message.status else edited


def with_body(element: bytes, body: bytes) -> bytes:
    """Put another body into the envelope of *element*."""
    return element[: element.index(b"\n") + 1] + body


_SUMMARY = b',"summary":true'
_MARKED_SUMMARY = re.compile(_SUMMARY + rb'(,"status":"[a-z]+")?}$')


def as_summary(element: bytes) -> bytes:
    """Mark a new message as the summary of those before, so that a later summary takes its place."""
    head, _, body = element.partition(b"\n")
    return b"%b%b}\n%b" % (head[:-1], _SUMMARY, body)


def is_summary(element: bytes) -> bool:
    """Tell whether a message is marked as a summary."""
    return bool(_MARKED_SUMMARY.search(element.partition(b"\n")[0]))


REDACTED = "redacted"
"""Status of a message whose content was removed for good."""

STATUSES = ("unanswered", "failed", "interrupted", "superseded", "stopped", REDACTED)
"""Fates of messages: no reply came, the handler failed, the reply was cut short, another turn took over, somebody stopped
the reply, the content was removed."""

_STATUS = re.compile(rb',"status":"[a-z]+"$')
_REDACTED = b',"status":"%b"}' % REDACTED.encode()


def with_status(element: bytes, status: str) -> bytes:
    """Put another status into the envelope of *element*, or take it out ("").

    The status stands last, where scripts can write it too. A redacted message stays redacted.
    """
    head, _, body = element.partition(b"\n")
    if head.endswith(_REDACTED):
        return element
    envelope = _STATUS.sub(b"", head[:-1])
    return b'%b,"status":"%b"}\n%b' % (envelope, status.encode(), body) if status else b"%b}\n%b" % (envelope, body)


def is_redacted(element: bytes) -> bool:
    """Tell whether the content of a message was removed for good."""
    return element.partition(b"\n")[0].endswith(_REDACTED)


def emptied(body: Any) -> Any:
    """Make the body of a redacted message. Of a dict the role stays."""
    if not isinstance(body, dict):
        return ""
    return {"role": body["role"], "content": ""} if "role" in body else {"content": ""}


def redacted(element: bytes) -> bytes:
    """Remove all of a message but its time, its id, its cost and its role.

    Raises:
        ValueError, TypeError, LookupError: It is none of ours.
    """
    if is_redacted(element):
        return element
    message = message_of(element, 0)
    emptied_message = replace(message, body=emptied(message.body), metadata=None)
    facts = {**facts_of(emptied_message), "edited_at": message.created_at_ms}
    return with_status(join_element(message.created_at_ms, json_text.encode(emptied_message.body), facts), REDACTED)


plain_head = re.compile(rb'1\{"at":(\d+)\}\n').match
"""Matches the first line of a message of which nothing but the time is told. Most are like that."""


def bodies_of(elements: Sequence[bytes]) -> list[bytes]:
    """Get the JSON texts of the messages' bodies.

    Raises:
        ValueError: An element is none of ours. Its index is the second argument.
    """
    version, line_end, end = _ELEMENT_VERSION[0], ord("\n"), _PLAIN - 1
    with contextlib.suppress(IndexError):
        for one in elements:
            if one[end] != line_end or one[0] != version:
                break
        else:
            return list(map(_BODY, elements))
    return [_body_of(element, index) for index, element in enumerate(elements)]


def _body_of(element: bytes, index: int) -> bytes:
    head, newline, body = element.partition(b"\n")
    if not newline or not head.startswith(_ELEMENT_VERSION):
        raise ValueError("not a message of flask-convstore", index)
    return body


def stored_message(element: bytes, seq: int, key: str) -> Message:
    """Decode the message that a store holds as *element*.

    Args:
        key: Place of its history, for the error.

    Raises:
        CorruptValue: The element is not ours.
    """
    try:
        return message_of(element, seq)
    except (ValueError, TypeError, LookupError) as error:
        told = type(error).__name__  # its text may quote the message
        raise CorruptValue(key, f"its message with seq {seq} is corrupt ({told})") from None


def message_of(element: bytes, seq: int) -> Message:
    """Decode the message in *element*. ValueError, TypeError or LookupError if it is none."""
    plain = plain_head(element)
    if plain:
        own_id = id_of(seq) if seq else ""
        return Message(json_text.decode(element[plain.end() :]), None, seq, int(plain[1]), id=own_id)
    head, _, body = element.partition(b"\n")
    envelope = json_text.decode(head[len(_ELEMENT_VERSION) :])
    if not isinstance(envelope, dict):
        raise ValueError("its envelope is no object")
    tokens = envelope.get("tokens")
    return Message(
        json_text.decode(body),
        envelope.get("metadata"),
        seq,
        int(envelope["at"]),
        envelope.get("status"),
        None if tokens is None else Usage(*tokens),
        envelope.get("edited_at"),
        tuple(envelope.get("edits", ())),
        envelope.get("id", ""),
    )
