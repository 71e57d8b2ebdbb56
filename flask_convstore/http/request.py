"""HTTP body > JSON value: strict, bounded, every refusal one of our errors. webargs does the rest."""

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
"""Characters of the longest integer of 64 bits; a longer one is not worth computing."""


class RequestParser(FlaskParser):
    """webargs's parser, with our reading of JSON and our errors."""

    def load_json(self, req: flask.Request, schema: Schema) -> Any:
        """The body as a value that can be stored; ``missing`` if there is none."""
        text = _body(req)
        if not text and not req.content_length:
            return missing
        if not req.is_json:
            raise UnsupportedMediaType(f"the body must be application/json, not {req.mimetype or 'of no type'}")
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
        """The form's errors, by place instead of nested."""
        errors: dict[str, list[str]] = {}
        for found in error.messages_dict.values():  # one per location: json, query
            _flatten(found, "", errors)
        raise InvalidRequest(errors)


parser = RequestParser()


def json_value(text: bytes) -> Any:
    """The value of JSON *text*, one that can be stored.

    Raises:
        BadJson: It is none, or an object has a name twice.
        NotSerializable: It cannot be stored; TooDeep: it is nested too deep.
    """
    try:
        value = _decoder.decode(text.decode())
    except RecursionError:
        raise BadJson("the body is nested too deep") from None
    except ValueError as error:
        where = f"line {error.lineno} column {error.colno}: " if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise BadJson(f"the body is no JSON: {where}{reason}") from None
    json_text.encode(value)
    return value


def body_text(req: flask.Request, mimetype: str) -> bytes:
    """The body of a request that says it is of *mimetype*, or JSON."""
    if req.mimetype != mimetype and not req.is_json:
        raise UnsupportedMediaType(f"the body must be {mimetype}, not {req.mimetype or 'of no type'}")
    return _body(req)


def limit_body(request: flask.Request, limit: int) -> None:
    """Let *request* have at most *limit* bytes, or what the host allows if that is less."""
    allowed = request.max_content_length
    request.max_content_length = limit if allowed is None else min(allowed, limit)


def _body(req: flask.Request) -> bytes:
    """The whole body. Of one that comes in chunks, and does not tell its length, no more than the limit is read."""
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
    """An object; of two values of one name, one would be lost."""
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
            named = key not in ("_schema", "key", "value")
            _flatten(inner, f"{place}.{key}" if place and named else str(key) if named else place, errors)
    elif isinstance(messages, list):
        errors.setdefault(place or "body", []).extend(str(message) for message in messages)
