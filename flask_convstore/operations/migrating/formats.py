"""Formats of other code: what its keys hold, as the dict or list that a session is made of.

A key that holds no conversation is ``Nothing``. Pickled values are read by a reader that knows plain types only, so that no
code runs.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...domain import json_text
from ...domain.messages import Message
from . import msgpack


class Nothing(Exception):
    """A key holds no conversation."""


class Format(NamedTuple):
    """A format.

    Attributes:
        kind: The type of the keys in Redis.
        pattern: The pattern of its keys, with one asterisk for the session's id. None: that of hand-written code, which is
            asked for or begins with our own prefix.
        read: Makes the content of a session of the values of its keys. ValueError: they are of another format.
        is_spread: Each message has a key of its own: the id of the session, a colon, and the id of the message.
    """

    kind: str
    pattern: str | None
    read: Callable[[Sequence[bytes]], Any]
    is_spread: bool = False


def _loaded(text: bytes) -> Any:
    """Read JSON, or a pickle."""
    return _unpickled(text) if text[:1] == b"\x80" else json_text.parse(text)


def _from_latin(text: str, encoding: str) -> bytes:
    """Stand for the function by which old pickles write bytes."""
    if encoding != "latin1":
        raise ValueError(f"pickled bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_TYPES = (set, frozenset, bytearray, list, dict, tuple, int, float, str, bool)
_PLAIN: dict[tuple[str, str], Any] = {
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in _TYPES},
    ("_codecs", "encode"): _from_latin,
    ("collections", "OrderedDict"): dict,
    ("collections", "defaultdict"): lambda *_: {},
}
_OF_DATETIME = ("date", "datetime", "time", "timedelta", "timezone")


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain types only. Anything else is refused before it is made."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Find one of the plain types that pickle names."""
        if (module_name, global_name) in _PLAIN:
            return _PLAIN[module_name, global_name]
        if module_name == "datetime" and global_name in _OF_DATETIME:
            import datetime

            return getattr(datetime, global_name)
        raise ValueError(f"a pickled {module_name}.{global_name}, which is no plain type and is not made")


def _unpickled(text: bytes) -> Any:
    try:
        return _PlainUnpickler(io.BytesIO(text)).load()
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"a pickle that cannot be read ({type(error).__name__})") from error


def _of_text(values: Sequence[bytes]) -> Any:
    """A JSON text or a pickle in a string."""
    return _content(_loaded(values[0]))


def _content(value: Any) -> Any:
    if not isinstance(value, (dict, list)):
        raise ValueError(f"it holds a {type(value).__name__}, and no dict or list")
    return value


def _of_list(values: Sequence[bytes]) -> Any:
    """A list of JSON texts, oldest first."""
    return [_loaded(value) for value in values]


def _of_flask_session(values: Sequence[bytes]) -> Any:
    """A session of Flask-Session, without what Flask and its extensions keep there under names that begin with "_"."""
    (text,) = values
    readers: tuple[Callable[[bytes], Any], ...] = (
        (_unpickled,) if text[:2] in (b"\x80\x03", b"\x80\x04", b"\x80\x05") and text[-1:] == b"." else ()
    )
    for read in (*readers, msgpack.decode, json_text.parse):
        try:
            value = _content(read(text))
            break
        except ValueError:
            continue
    else:
        raise ValueError("it is no MessagePack, no JSON and no pickle of plain types")
    kept = {name: part for name, part in value.items() if not str(name).startswith("_")}
    if not kept:
        raise Nothing
    return kept


_ROLES = {"human": "user", "ai": "assistant", "HumanMessageChunk": "user", "AIMessageChunk": "assistant"}
_KNOWN = {"content", "type", "example", "tool_calls", "tool_call_id", "role"}
_EMPTY: tuple[Any, ...] = (None, {}, [], "")


def _of_langchain(values: Sequence[bytes]) -> Any:
    """A list of messages of LangChain, the newest first, as langchain-community writes it."""
    return [of_langchain(json_text.parse(value)) for value in reversed(values)]


def _of_langchain_redis(values: Sequence[bytes]) -> Any:
    """Documents with a message each, as langchain-redis writes them."""
    documents = [json_text.parse(value) for value in values]
    ordered = sorted(documents, key=lambda document: (document["timestamp"], document.get("message_id") or ""))
    return [of_langchain(document) for document in ordered]


def of_langchain(message: Mapping[str, Any]) -> Any:
    """Make a message of ours from one of LangChain's. What has no place in it becomes its metadata.

    Raises:
        ValueError: It is none of LangChain's.
    """
    try:
        kind, data = message["type"], message["data"]
        made = {"role": data.get("role") or _ROLES.get(kind, kind), "content": data["content"]}
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"this is no message of LangChain ({error!r})") from error
    if data.get("tool_calls"):
        made["tool_calls"] = [_call(call) for call in data["tool_calls"]]
    if data.get("tool_call_id") is not None:
        made["tool_call_id"] = data["tool_call_id"]
    rest = _rest(data)
    return Message(made, metadata={"langchain": rest}) if rest else made


def _rest(data: Mapping[str, Any]) -> dict[str, Any]:
    """Select the facts that have no place in a message, and say something."""
    facts = {name: value for name, value in data.items() if name not in _KNOWN and value not in _EMPTY}
    if facts.get("status") == "success":
        del facts["status"]
    return facts


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Make a call of a tool, as the vendors' APIs write it."""
    arguments = json_text.write(call["args"]).decode()
    return {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": arguments}}


FORMATS: dict[str, Format] = {
    "json": Format("string", None, _of_text),
    "list": Format("list", None, _of_list),
    "flask-session": Format("string", "session:*", _of_flask_session),
    "langchain": Format("list", "message_store:*", _of_langchain),
    "langchain-redis": Format("ReJSON-RL", "chat:*", _of_langchain_redis, is_spread=True),
}
"""By their names in the command ``migrate``."""


def under(content: Any, fields: Iterable[str]) -> Any:
    """Take a part out of a content: the value under one key after the other.

    Raises:
        Nothing: There is none.
    """
    for name in fields:
        if not isinstance(content, Mapping) or name not in content:
            raise Nothing
        content = content[name]
    return content
