"""HTTP body > JSON value, strict and bounded. Body and query > form. Every refusal is one of our errors."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from typing import Any, Literal, NoReturn

from flask import Request
from marshmallow import Schema, ValidationError, fields
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from ..config import Settings
from ..domain import json_text
from ..domain.json_search import shortened
from ..domain.validation import MAX_SEQ
from ..errors import ConvstoreError, NotSerializable, body_too_large
from .problems import BadJson, InvalidRequest, UnsupportedMediaType

_log = logging.getLogger("flask_convstore")

_LONGEST_INTEGER = 20
"""Characters of the longest integer of 64 bits. A longer text is not worth converting."""

_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG, _HUGE = b"0" * 19, b"0" * 4300
"""Digits of an integer that may have more than 64 bits, and of one that takes long to convert."""

_BODY_SLACK = 65_536
_ESCAPED = 3
"""Most bytes of escaped JSON for one byte of UTF-8. An emoji of 4 bytes takes 12."""

MOST_TOLD = 20
"""Most errors that an answer lists."""

_PLACED = 65_536
"""Bytes of the largest body in which the place of a bad value is searched. In a larger one the decoder's words must do."""


def query_of(request: Request, form: Schema) -> dict[str, Any]:
    """Load the query of *request* by *form*. Of several values of a name the first counts. Unknown names are left out."""
    return _loaded(form, request.args.to_dict(), "exclude")


def json_body(request: Request, settings: Settings) -> Any:
    """Read the body of *request* as a value that can be stored. {} without a body. The body is bounded before it is read.

    Raises:
        TooLarge, UnsupportedMediaType, BadJson, NotSerializable, TooDeep: There is no such value.
    """
    text = _body(request, _ESCAPED * (settings.max_message_bytes + settings.max_data_bytes) + _BODY_SLACK)
    length = request.content_length or 0
    if not text and not length:
        return {}
    if request.environ.get("CONTENT_TYPE") != "application/json" and not request.is_json:
        raise _no_json("application/json", request)
    if len(text) < length:
        raise BadJson(_CUT)
    return json_value(text)


def formed(value: Any, form: Schema) -> dict[str, Any]:
    """Load a *value* of JSON by *form*.

    Raises:
        InvalidRequest: It does not have that form.
    """
    _refuse_unknown(value, form, "")
    return _loaded(form, value, "raise")


def _loaded(form: Schema, value: Any, unknown: Literal["exclude", "raise"]) -> dict[str, Any]:
    """Load *value* by *form*, and raise the form's errors by place instead of nested."""
    try:
        found: dict[str, Any] = form.load(value, unknown=unknown)
    except ValidationError as error:
        errors: dict[str, list[str]] = {}
        _flatten(error.messages, "", errors)
        raise InvalidRequest(_few(errors)) from error
    return found


def _no_json(mimetype: str, request: Request) -> UnsupportedMediaType:
    given = request.mimetype or "without a type"
    return UnsupportedMediaType(f"the body must be {mimetype}, not {given}. Nothing was written.")


def json_value(text: bytes, deepest: int = json_text.MAX_DEPTH) -> Any:
    """Parse JSON *text* to a value that can be stored.

    Raises:
        BadJson: The text is no JSON, or an object has a name twice.
        NotSerializable: The value cannot be stored.
        TooDeep: The value is nested deeper than so many levels.
    """
    value, is_finite = _decoded(text)
    if is_finite and text.count(b"[") + text.count(b"{") <= deepest:
        encoded = json_text.write(value)  # without a look at its depth, which takes longer than all else
    else:
        encoded = json_text.encode_decoded(value, deepest, is_placed=len(text) <= _PLACED)
    # Of two values of one name the first one would be lost, and with it a colon.
    if _colons(text) != encoded.count(b":"):
        raise BadJson("the body is no JSON: an object has a name twice. Nothing was written.")
    if not is_finite and b"null" in encoded:
        json_text.check_finite(value, deepest)
    return value


def _decoded(text: bytes) -> tuple[Any, bool]:
    """Decode JSON *text*. Tell whether it has only numbers that are finite and may have 64 bits."""
    digits = text.translate(_DIGITS)
    if _LONG not in digits:
        try:
            return json_text.parse(text), True  # a client has no tags
        except json.JSONDecodeError as error:
            if len(text) > _PLACED:
                raise _refusal(error) from None
    # The other decoder gives better reasons, and takes numbers and texts that are then refused with their place.
    try:
        decoder = _decoder_of_huge if _HUGE in digits else _decoder
        return decoder.decode(text.decode()), False
    except RecursionError:
        raise BadJson("the body is nested too deep. Nothing was written.") from None
    except ValueError as error:
        raise _refusal(error) from None


def _refusal(error: ValueError) -> ConvstoreError:
    """Tell where a text is no JSON, or holds a lone surrogate."""
    reason = str(error)
    if isinstance(error, json.JSONDecodeError):
        reason = f"line {error.lineno} column {error.colno}: {error.msg}"
    if "surrogate" in reason:
        return NotSerializable(f"a text holds a lone surrogate: {reason}. Nothing was written.")
    return BadJson(f"the body is no JSON: {reason}. Nothing was written.")


def _colons(text: bytes) -> int:
    """Count the colons of a JSON text, those in its names and texts too, where they may be escaped."""
    colons = text.count(b":")
    if b"\\u003" in text:
        escapes = text.replace(rb"\\", b"")
        colons += escapes.count(rb"\u003a") + escapes.count(rb"\u003A")
    return colons


def body_text(request: Request, mimetype: str, most: int) -> bytes:
    """Read the body of *request*, of *most* bytes, whose media type is *mimetype*, or JSON."""
    if request.mimetype != mimetype and not request.is_json:
        raise _no_json(mimetype, request)
    text = _body(request, most)
    if len(text) < (request.content_length or 0):
        raise BadJson(_CUT)
    return text


def _body(request: Request, most: int) -> bytes:
    """Read the whole body, of *most* bytes or the host's own limit. A body without a length is read up to the limit.

    Raises:
        TooLarge: It is over the limit.
        BadJson: The client has gone before the end of the body, or its chunks are none.
    """
    allowed = request.max_content_length
    limit = request.max_content_length = most if allowed is None else min(allowed, most)
    length = request.content_length
    try:
        text = request.get_data(cache=True)
    except RequestEntityTooLarge:
        text = None
    except _CUT_OFF as error:
        raise BadJson(_CUT) from error
    except Exception as error:  # of a server that we do not know, or a bug
        _log.warning("the body for %s could not be read", request.endpoint, exc_info=True)
        raise BadJson(_CUT) from error
    if text is None or (text and length is None and len(text) == limit):
        raise body_too_large(limit, min(length or limit + 1, MAX_SEQ))
    return text


_CUT_OFF = (OSError, EOFError, ValueError, HTTPException)
"""Kinds of the errors that known servers raise for a client that has gone, and for chunks that are none."""
_CUT = "the body ends before it is whole. Nothing was written."
"""Refusal of a body that is shorter than its headers say. Some servers give what came before the client has gone."""


def _integer(text: str) -> int:
    return int(text[: _LONGEST_INTEGER + 1])


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)
_decoder_of_huge = json.JSONDecoder(parse_constant=_refuse, parse_int=_integer)


def _refuse_unknown(value: Any, schema: Schema, place: str) -> None:
    """Refuse an object with very many names that *schema* does not know. The schema itself tells of a few."""
    if not isinstance(value, dict):
        return
    unknown = len(value) - len(schema.load_fields.keys() & value.keys())
    if unknown > MOST_TOLD:
        raise InvalidRequest({place or "body": [f"{unknown:,} names of this object are unknown."]})
    for name, nested in _nested(schema):
        _refuse_unknown(value.get(name), nested, _place_of(name, place))


@lru_cache
def _nested(schema: Schema) -> list[tuple[str, Schema]]:
    """List the forms within a form, by their names."""
    return [(name, field.schema) for name, field in schema.load_fields.items() if isinstance(field, fields.Nested)]


def _few(errors: dict[str, list[str]]) -> dict[str, list[str]]:
    """Keep the first of many errors, and tell how many there are."""
    if len(errors) <= MOST_TOLD:
        return errors
    told = dict(list(errors.items())[:MOST_TOLD])
    told.setdefault("body", []).append(f"There are {len(errors) - MOST_TOLD:,} errors more.")
    return told


def _flatten(messages: Any, place: str, errors: dict[str, list[str]]) -> None:
    if isinstance(messages, dict):
        for key, inner in messages.items():
            _flatten(inner, _place_of(key, place), errors)
    elif isinstance(messages, list):
        errors.setdefault(place or "body", []).extend(str(message) for message in messages)


def _place_of(key: object, place: str) -> str:
    if key in ("_schema", "key", "value"):  # words of marshmallow, no part of the body
        return place
    name = shortened(str(key))
    return f"{place}.{name}" if place else name
