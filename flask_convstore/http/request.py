"""HTTP body > JSON value, strict and bounded. Every refusal is one of our errors. webargs does the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import flask
from marshmallow import Schema, ValidationError, missing
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import RequestEntityTooLarge

from ..domain import json_text
from ..errors import body_too_large
from .problems import BadJson, InvalidRequest, UnsupportedMediaType

_LONGEST_INTEGER = 20
"""Characters of the longest integer of 64 bits. A longer text is not worth converting."""


class RequestParser(FlaskParser):
    """Parser of webargs that reads JSON in our way and raises our errors."""

    def load_json(self, req: flask.Request, schema: Schema) -> Any:
        """Read the body as a value that can be stored. ``missing`` without a body."""
        text = _body(req)
        if not text and not req.content_length:
            return missing
        if not req.is_json:
            raise UnsupportedMediaType(
                f"the body must be application/json, not {req.mimetype or 'without a type'}. Nothing was written."
            )
        return json_value(text)

    def handle_error(
        self,
        error: ValidationError,
        req: flask.Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        """Raise the form's errors, by place instead of nested."""
        errors: dict[str, list[str]] = {}
        for found in error.messages_dict.values():  # one per location: json, query
            _flatten(found, "", errors)
        raise InvalidRequest(errors)


parser = RequestParser()


def json_value(text: bytes) -> Any:
    """Parse JSON *text* to a value that can be stored.

    Raises:
        BadJson: The text is no JSON, or an object has a name twice.
        NotSerializable: The value cannot be stored.
        TooDeep: The value is nested too deep.
    """
    try:
        value = _decoder.decode(text.decode())
    except RecursionError:
        raise BadJson("the body is nested too deep. Nothing was written.") from None
    except ValueError as error:
        reason = str(error)
        if isinstance(error, json.JSONDecodeError):
            reason = f"line {error.lineno} column {error.colno}: {error.msg}"
        raise BadJson(f"the body is no JSON: {reason}. Nothing was written.") from None
    json_text.encode(value)
    return value


def body_text(req: flask.Request, mimetype: str) -> bytes:
    """Read the body of a request whose media type is *mimetype*, or JSON."""
    if req.mimetype != mimetype and not req.is_json:
        raise UnsupportedMediaType(
            f"the body must be {mimetype}, not {req.mimetype or 'without a type'}. Nothing was written."
        )
    return _body(req)


def limit_body(request: flask.Request, limit: int) -> None:
    """Limit the body of *request* to *limit* bytes, or to the host's own limit if that is lower."""
    allowed = request.max_content_length
    request.max_content_length = limit if allowed is None else min(allowed, limit)


def _body(req: flask.Request) -> bytes:
    """Read the whole body. A body in chunks, without a length, is read up to the limit."""
    limit, length = req.max_content_length or 0, req.content_length
    try:
        text = req.get_data(cache=True)
    except RequestEntityTooLarge:
        text = None
    if text is None or (text and length is None and len(text) == limit):
        raise body_too_large(limit, length or limit + 1)
    return text


def _integer(text: str) -> int:
    return int(text[: _LONGEST_INTEGER + 1])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object. Two values of one name are refused, since one would be lost."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_decoder = json.JSONDecoder(parse_int=_integer, parse_constant=_refuse, object_pairs_hook=_object)


def _flatten(messages: Any, place: str, errors: dict[str, list[str]]) -> None:
    if isinstance(messages, dict):
        for key, inner in messages.items():
            _flatten(inner, _place_of(key, place), errors)
    elif isinstance(messages, list):
        errors.setdefault(place or "body", []).extend(str(message) for message in messages)


def _place_of(key: object, place: str) -> str:
    if key in ("_schema", "key", "value"):  # words of marshmallow, no part of the body
        return place
    return f"{place}.{key}" if place else str(key)
