"""JSON > values: the forms of bodies and queries, for marshmallow.

The ``metadata`` of a field are the words of JSON Schema that marshmallow does not know, such as a description. The OpenAPI
document takes them from here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import methodcaller
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from ..config import Settings
from ..domain.commands import Target
from ..domain.json_text import Decoded
from ..domain.messages import Message, Usage
from ..domain.types import COMPLETE, ORDERS
from ..domain.validation import MAX_NAME, MAX_SEQ, check_message_id, check_target, is_message_id
from ..errors import InvalidInput
from ..sessions.content import MAX_FIELDS, check_count
from .json_schema import CONTROL, TARGET, Json, ref
from .tool_parts import CALLS, RESULTS, foreign_part


class _Whole(fields.Integer):
    """A whole number: in JSON also 5.0, in a query digits only, with an optional sign."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,4000}", value):
            raise self.make_error("invalid")
        whole: int = super()._validated(int(value) if isinstance(value, float) and value.is_integer() else value)
        return whole


def _said(description: str, **keywords: Any) -> Json:
    return {"description": description, **keywords}


# ---- queries


def _limit() -> _Whole:
    metadata = _said("Most items of a page.")
    return _Whole(load_default=50, validate=validate.Range(min=1, max=1000), metadata=metadata)


CURSOR = "^[0-9]{1,16}(\\.([0-9a-f]{2})+)?$"
"""Pattern of cursors as clients see them: a time, and the rest of the store's cursor as hexadecimal digits."""


def _cursor() -> fields.String:
    metadata = _said("`next` of the page before, or `cursor` of an export's line. The page begins behind it.")
    checks = [validate.Length(min=1, max=1000), validate.Regexp(CURSOR)]
    return fields.String(load_default=None, validate=checks, metadata=metadata)


GET_QUERY = Schema.from_dict(
    {
        "last": _Whole(
            load_default=None, validate=validate.Range(min=0), metadata=_said("Number of newest messages to show.")
        ),
        "fields": fields.String(
            load_default=None,
            validate=validate.Length(max=8000),
            metadata=_said(
                "Names of the data fields to show, with commas between them. Empty: none. All without it. A name that has a "
                "comma cannot be given."
            ),
        ),
    },
    name="GetQuery",
)()
"""``?last=k&fields=a,b``, for the k newest messages and these data fields."""


def names_of(text: str | None) -> list[str] | None:
    """Read the names of data fields from ``?fields=``. None: all."""
    return None if text is None else [name for name in text.split(",") if name]


MESSAGES_QUERY = Schema.from_dict(
    {
        "before": _Whole(
            load_default=None,
            validate=validate.Range(min=1, max=MAX_SEQ),
            metadata=_said("Only messages with a lower `seq`, the newest of them."),
        ),
        "after": _Whole(
            load_default=None,
            validate=validate.Range(min=0, max=MAX_SEQ),
            metadata=_said("Only messages with a higher `seq`, the oldest of them. Not with `before`."),
        ),
        "limit": _limit(),
    },
    name="MessagesQuery",
)()
"""``?before=seq&limit=n``, or ``?after=seq&limit=n``."""


def _check_target(text: str) -> None:
    if not is_message_id(text):
        raise ValidationError("No message can have this id.")


DROP_QUERY = Schema.from_dict(
    {
        "after": fields.String(
            required=True,
            validate=_check_target,
            metadata=_said(
                "`seq` or id of the message that is the newest then.", minLength=1, maxLength=MAX_NAME, pattern=TARGET
            ),
        )
    },
    name="DropQuery",
)()
"""``?after=seq or id``."""

FOLLOW_QUERY = Schema.from_dict(
    {
        "last_event_id": fields.String(
            load_default=None,
            validate=validate.Length(1, MAX_NAME),
            metadata=_said("The same as the header `Last-Event-ID`, for clients that cannot set a header."),
        )
    },
    name="FollowQuery",
)()
"""``?last_event_id=``."""

SCRIPT_QUERY = Schema.from_dict(
    {
        "v": fields.String(
            load_default=None, metadata=_said("The version, as `url_for` gives it. It may be kept for a year then.")
        )
    },
    name="ScriptQuery",
)()
"""``?v=``."""

LIST_QUERY = Schema.from_dict(
    {
        "cursor": _cursor(),
        "limit": _limit(),
        "order": fields.String(
            load_default="updated",
            validate=validate.OneOf(ORDERS),
            metadata=_said("By last change, which reading does not move, or by last interaction."),
        ),
        "newest_first": fields.Boolean(
            load_default=True, truthy={"true"}, falsy={"false"}, metadata=_said("False lists the oldest first.")
        ),
    },
    name="ListQuery",
)()
"""``?cursor=&limit=n&order=updated&newest_first=true``."""

EXPORT_QUERY = Schema.from_dict({"cursor": _cursor()}, name="ExportQuery")()
"""``?cursor=``."""


# ---- bodies


def _content(settings: Settings, *, may_be_null: bool = False) -> fields.Raw:
    """Make the field of a message's content: a text, or parts. A part is an object that names its type."""
    metadata = _said("A text, or parts.", **ref("Content"))
    if may_be_null:
        is_nothing: Json = {"type": "null"}
        metadata = _said("A text, or parts. Null only beside `tool_calls`.", anyOf=[ref("Content"), is_nothing])

    def check(content: object) -> None:
        if isinstance(content, str):
            return
        parts = content if isinstance(content, list) else []
        if (
            not parts
            or set(map(type, parts)) != {dict}
            or set(map(type, map(methodcaller("get", "type"), parts))) != {str}
        ):
            raise ValidationError("Not a text, nor a list of objects with a type.")
        role = foreign_part(parts, settings.client_roles)
        if role:
            raise ValidationError(f"Clients may not write calls or results of tools, which need the role {role!r}.")

    return fields.Raw(required=True, allow_none=may_be_null, validate=check, metadata=metadata)


def _metadata(settings: Settings) -> fields.Dict:
    """Make the field of a message's metadata. Their depth is checked with the whole message."""
    description = f"Metadata of the message, nested at most {settings.max_metadata_depth} levels deep."
    metadata = _said(description, type=["object", "null"], additionalProperties=ref("Value"))
    return fields.Dict(load_default=None, metadata=metadata)


def _check_id(text: str) -> None:
    try:
        check_message_id(text, "id")
    except InvalidInput as error:
        raise ValidationError(error.reason) from None


class _Target(fields.Field[Any]):
    """The seq or the id of a message."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **given: Any) -> Target:
        if isinstance(value, str):
            _check_target(value)
        value = int(value) if isinstance(value, float) and value.is_integer() else value  # as JSON Schema has it
        try:
            check_target(value, "replaces")
        except InvalidInput as error:
            raise ValidationError(error.reason) from None
        target: Target = value
        return target


class _MessageForm(Schema):
    """A message that calls tools may have no content."""

    @validates_schema
    def _check_null(self, message: dict[str, Any], **given: Any) -> None:
        if message["content"] is None and not message.get("tool_calls"):
            raise ValidationError("Only a message with tool_calls may have no content.", "content")


def _message(settings: Settings) -> dict[str, fields.Field[Any]]:
    """Make the fields of a message that a client sends: ``{content, role?, metadata?, id?}``, and those of tools."""
    return {
        "role": fields.String(
            load_default=first_role(settings),
            validate=validate.OneOf(settings.client_roles),
            metadata=_said("Speaker of the message."),
        ),
        "content": _content(settings, may_be_null=CALLS in settings.client_roles),
        "metadata": _metadata(settings),
        **_tokens(settings),
        **_tools(settings),
        "id": fields.String(
            load_default=None,
            validate=_check_id,
            metadata=_said(
                "Id of the message, unique in the session. A repeated one repeats the request. None of digits alone, nor "
                "like `msg-12`, which stands for a number.",
                minLength=1,
                maxLength=MAX_NAME,
                pattern=f"^(?!(msg-)?[0-9]+$){TARGET[1:]}",
            ),
        ),
    }


def _tools(settings: Settings) -> dict[str, fields.Field[Any]]:
    """Make the fields of calls and results of tools, in the form of OpenAI Chat, where clients may write their roles."""
    found: dict[str, fields.Field[Any]] = {}
    if RESULTS in settings.client_roles:
        about = {"tool_call_id": "Id of the call that has this result.", "name": "Name of the tool that was called."}
        for name, description in about.items():
            found[name] = fields.String(load_default=None, validate=validate.Length(min=1), metadata=_said(description))
    if CALLS in settings.client_roles:
        items = {"type": "object", "additionalProperties": ref("Value")}
        metadata = _said("Calls of tools.", type=["array", "null"], minItems=1, items=items)
        found["tool_calls"] = fields.Raw(load_default=None, validate=_check_calls, metadata=metadata)
    return found


def _check_calls(calls: object) -> None:
    if not isinstance(calls, list) or set(map(type, calls)) != {dict}:  # in C, since a hostile list is very long
        raise ValidationError("Not a list of objects.")


@lru_cache
def continue_body(settings: Settings) -> Schema:
    """Make the form of a message, which may take the place of another one."""
    replaces = _Target(
        load_default=None,
        metadata=_said(
            "`seq` or id of a message that gives way to this one, with all behind it.",
            type=["integer", "string", "null"],
            minimum=1,
            maximum=MAX_SEQ,
            minLength=1,
            maxLength=MAX_NAME,
            pattern=f"^(?![0-9]+$){TARGET[1:]}",
        ),
    )
    return _MessageForm.from_dict({**_message(settings), "replaces": replaces}, name="Continue")()


@lru_cache
def _first_message(settings: Settings) -> Schema:
    return _MessageForm.from_dict(_message(settings), name="FirstMessage")()


@lru_cache
def edit_body(settings: Settings) -> Schema:
    """Make the form of a message's new content: ``{content, metadata?}``."""
    return Schema.from_dict({"content": _content(settings), "metadata": _metadata(settings)}, name="Edit")()


@lru_cache
def start_body(settings: Settings) -> Schema:
    """Make the form of a new session: ``{data?, message?, alias?}``, and ``ttl`` where clients may set it."""
    session: dict[str, fields.Field[Any]] = {
        "data": _Data(settings, settings.history_key[0], load_default=dict),
        "message": fields.Nested(
            _first_message(settings), load_default=None, metadata=_said("First message of the session.")
        ),
        "alias": fields.String(
            load_default=None,
            validate=validate.Length(min=1, max=MAX_NAME),
            metadata=_said("Outside id of the conversation, such as `telegram:123`.", pattern=f"^[^{CONTROL}]+$"),
        ),
        **_ttl(settings),
    }
    return Schema.from_dict(session, name="Start")()


@lru_cache
def update_body(settings: Settings) -> Schema:
    """Make the form of a session's changes: ``{data?, title?}``, and ``ttl`` where clients may set it."""
    changed: dict[str, fields.Field[Any]] = {
        "data": _Data(settings),
        "title": fields.String(
            allow_none=True,
            validate=validate.Length(max=MAX_NAME),
            metadata=_said("Title of the session. An empty text or null removes it.", pattern=f"^[^{CONTROL}]*$"),
        ),
        **_ttl(settings),
    }
    return Schema.from_dict(changed, name="Update")()


@lru_cache
def compact_body(settings: Settings) -> Schema:
    """Make the form of a compaction: ``{summary, keep?}``."""
    given: dict[str, fields.Field[Any]] = {
        "summary": fields.String(
            required=True,
            validate=validate.Length(min=1),
            metadata=_said("Text at the beginning of the new session."),
        ),
        "keep": _Whole(
            load_default=10,
            strict=True,
            validate=validate.Range(min=0, max=settings.max_history),
            metadata=_said("Number of newest messages that come along."),
        ),
    }
    return Schema.from_dict(given, name="Compact")()


FORK_BODY = Schema.from_dict(
    {
        "seq": _Whole(
            load_default=None,
            strict=True,
            validate=validate.Range(min=0, max=MAX_SEQ),
            metadata=_said("Last message that comes along. Null takes all messages."),
        )
    },
    name="Fork",
)()
"""Form of a fork: ``{seq?}``."""


CURRENT_BODY = Schema.from_dict(
    {
        "session_id": fields.String(
            required=True,
            allow_none=True,
            validate=validate.Length(min=1, max=MAX_NAME),
            metadata=_said("The owner's session. Null: the owner has no current session.", pattern=f"^[^{CONTROL}]+$"),
        )
    },
    name="SetCurrent",
)()
"""Form of the current session: ``{session_id}``."""


def forms(settings: Settings) -> dict[str, Schema]:
    """Collect every form, by its name in the table of routes."""
    found = (
        GET_QUERY,
        MESSAGES_QUERY,
        DROP_QUERY,
        FOLLOW_QUERY,
        SCRIPT_QUERY,
        LIST_QUERY,
        EXPORT_QUERY,
        start_body(settings),
        update_body(settings),
        continue_body(settings),
        edit_body(settings),
        compact_body(settings),
        FORK_BODY,
        CURRENT_BODY,
    )
    return {type(form).__name__: form for form in found}


def plain_message(value: Any, settings: Settings) -> dict[str, str] | None:
    """Make the message of a body with nothing but a text, and perhaps a role. None: *value* needs ``continue_body``."""
    if type(value) is not dict or not value.keys() <= _PLAIN:
        return None
    role = value["role"] if "role" in value else first_role(settings)
    content = value.get("content")
    if type(content) is not str or type(role) is not str or role not in settings.client_roles:
        return None
    return {"role": role, "content": content}


_PLAIN = {"role", "content"}


def message_in(body: dict[str, Any]) -> Message:
    """Make the message of a body that a client sent."""
    metadata = None if body["metadata"] is None else Decoded(body["metadata"])
    tokens = body.get("tokens")
    cost = Usage(tokens["input"], tokens["output"]) if tokens else None
    tools = {name: body[name] for name in ("name", "tool_call_id", "tool_calls") if body.get(name)}
    content = Decoded(role=body["role"], content=body["content"], **tools)
    return Message(content, metadata, id=body["id"] or "", tokens=cost)


def first_role(settings: Settings) -> str:
    """Choose the role of a client's message that names none."""
    return "user" if "user" in settings.client_roles else settings.client_roles[0]


def lifetime_fields(settings: Settings) -> tuple[str, ...]:
    """List the data fields that change a session's lifetime, if clients may not do that.

    Clients may with ``CONVSTORE_CLIENT_TTL``, or where ``CONVSTORE_CLIENT_DATA`` names the field.
    """
    is_named = isinstance(settings.client_data, tuple) and COMPLETE in settings.client_data
    return () if settings.client_ttl or is_named else (COMPLETE,)


def _ttl(settings: Settings) -> dict[str, fields.Field[Any]]:
    """Make the field of the lifetime, where clients may set it. The operation checks its bounds."""
    if not settings.client_ttl:
        return {}
    metadata = _said(
        "Lifetime of the session in seconds, from each interaction.",
        type=["number", "null"],
        minimum=1,
        maximum=settings.max_ttl,
    )
    return {"ttl": fields.Raw(load_default=None, metadata=metadata)}


MAX_TOKENS_TOLD = 10**9
"""Most tokens that a client can tell of one message, far more than any model takes."""


def _count() -> _Whole:
    return _Whole(
        load_default=0,
        strict=True,
        validate=validate.Range(min=0, max=MAX_TOKENS_TOLD),
        metadata=_said("Number of tokens."),
    )


_COST = Schema.from_dict({"input": _count(), "output": _count()}, name="Usage")()


def _tokens(settings: Settings) -> dict[str, fields.Field[Any]]:
    """Make the field of a message's cost, where clients may tell it."""
    if not settings.client_usage:
        return {}
    metadata = _said("Cost of the message in tokens of a model.")
    return {"tokens": fields.Nested(_COST, load_default=None, allow_none=True, metadata=metadata)}


class _Data(fields.Dict):
    """Data fields that clients may set.

    Args:
        history_key: The key of the history in a new session. A session that exists knows its own, and the store refuses it.
    """

    def __init__(self, settings: Settings, history_key: str | None = None, **options: Any) -> None:
        self._allowed = settings.client_data
        self._refused = {*([history_key] if history_key else []), *lifetime_fields(settings)}
        super().__init__(**options, metadata=self._shape())

    def _deserialize(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        data: dict[str, Any] = super()._deserialize(*arguments, **options)  # type: ignore[no-untyped-call]
        check_count(len(data))
        refused = {name: ["Clients may not set this field."] for name in data if not self._is_allowed(name)}
        if refused:
            raise ValidationError(refused)
        return Decoded(data)

    def _is_allowed(self, name: str) -> bool:
        if name in self._refused:
            return False
        return self._allowed if isinstance(self._allowed, bool) else name in self._allowed

    def _shape(self) -> Json:
        shape = _said("The app's own fields.", type="object", additionalProperties=ref("Value"))
        if self._allowed is True:
            return {
                **shape,
                **({"propertyNames": {"not": {"enum": sorted(self._refused)}}} if self._refused else {}),
                "maxProperties": MAX_FIELDS,
            }
        names = self._allowed or ()
        properties = {name: ref("Value") for name in names if self._is_allowed(name)}
        return {**shape, "properties": properties, "additionalProperties": False}
