"""The OpenAPI 3.1 document of one blueprint: its paths as the app serves them, as far as its settings allow.

``http.routes`` has the facts of a route, ``operations`` its words and examples. Bodies and queries come from
``http.schemas``, answers from ``shapes``, problems from ``http.problems``. apispec, an optional extra, is imported late.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from marshmallow import Schema

from ...config import Settings
from ...domain import json_text
from ...domain.validation import MAX_NAME
from ...errors import CrossOrigin, InvalidInput, NotInstalled, TooManySessions, TooManyTurns
from .. import schemas
from ..door import Served
from ..json_schema import CONTROL, TARGET, Json, ref
from ..problems import EXAMPLE_ID, PROBLEM, Problem, problem_json
from ..routes import EVENT_STREAM, JSON_LINES, ROUTES, Route, is_served
from .descriptions import EVENTS_EXAMPLE, GIVEN, KEY_OF_NOBODY, LINKS, OPERATIONS, SHOWN, VERSION, Answer, Operation
from .shapes import COMPONENTS

if TYPE_CHECKING:
    from apispec import APISpec

_JSON = "application/json"
_LINE = "Exported"
"""Name of the component that stands in each line of JSON Lines."""
_EVENTS = "Events"
_MEDIA_TYPES = {_LINE: JSON_LINES, _EVENTS: EVENT_STREAM, "Script": "text/javascript", "Metrics": "text/plain"}
"""Media types of answers that are no JSON."""


@lru_cache(maxsize=32)
def document_text(served: Served, server: str) -> tuple[bytes, str]:
    """Make the document as JSON text, and its ETag, once for each place of a blueprint.

    Raises:
        NotInstalled: apispec is missing.
    """
    text = json_text.dump(document(served, server))
    return text, hashlib.blake2b(text, digest_size=16).hexdigest()


def document(served: Served, server: str) -> Json:
    """Make the document of one blueprint. *server* is the path of the app.

    Raises:
        NotInstalled: apispec is missing.
    """
    try:
        from apispec import APISpec
    except ImportError as error:
        raise NotInstalled("this needs apispec: install it, or the extra [openapi] of flask-convstore") from error
    spec = APISpec(
        title="Conversations",
        version=importlib.metadata.version("flask-convstore"),
        openapi_version=VERSION,
        info={"description": "Chat conversations. Every error of these routes is a problem of RFC 9457."},
        servers=[{"url": server}],
    )
    add(spec, served, "")
    found: Json = spec.to_dict()
    return found


def add(spec: APISpec, served: Served, prefix: str) -> None:
    """Add paths and components to *spec*. Their names begin with *prefix*.

    Raises:
        InvalidInput: *spec* has an OpenAPI version before 3.1.
    """
    if (spec.openapi_version.major, spec.openapi_version.minor) < (3, 1):
        raise InvalidInput(f"the spec has OpenAPI {spec.openapi_version}: make a spec of {VERSION}", "spec")
    for name, component in {**COMPONENTS, **_bodies(served.settings)}.items():
        spec.components.schema(prefix + name, _named(component, prefix))
    for path, operations in _paths(served).items():
        spec.path(path, operations=_named(operations, prefix))


def _named(part: Any, prefix: str) -> Any:
    """Put *prefix* before the names of components and operations in *part*."""
    if isinstance(part, list):
        return [_named(item, prefix) for item in part]
    if not isinstance(part, dict):
        return part
    named = {}
    for key, value in part.items():
        is_name = key in ("$ref", "operationId") and isinstance(value, str)
        named[key] = _prefixed(value, prefix) if is_name else _named(value, prefix)
    return named


def _prefixed(name: str, prefix: str) -> str:
    """Put *prefix* before the last part of a name or a reference."""
    path, slash, last = name.rpartition("/")
    return f"{path}{slash}{prefix}{last}"


def _paths(served: Served) -> dict[str, Json]:
    paths: dict[str, Json] = {}
    routes = {f"{served.name}.{route.endpoint}": route for route in ROUTES}
    for rule, endpoint in served.rules:
        route = routes.get(endpoint)
        if route and is_served(route.endpoint, served.settings):
            path = re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule)
            names = re.findall(r"\{(\w+)\}", path)
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, names, served)
    return paths


def _operation(route: Route, names: list[str], served: Served) -> Json:
    operation, settings = OPERATIONS[route.endpoint], served.settings
    shown: Json = {
        "operationId": route.endpoint,
        "summary": operation.summary,
        "description": operation.description,
        "tags": [served.name],
        "parameters": [
            *map(_path_parameter, names),
            *_query_parameters(route, settings),
            *_header_parameters(route, served),
        ],
    }
    if route.body:
        shown["requestBody"] = _body(route, operation, settings)
    of_prefix = {name: f"$request.path.{name}" for name in names if name not in _PATH}
    successes = _successes(route, operation, settings, of_prefix)
    return {**shown, "responses": {**successes, **_failures(route.problems(), settings)}}


def _body(route: Route, operation: Operation, settings: Settings) -> Json:
    media_type = JSON_LINES if route.takes_lines else _JSON
    is_required = not route.takes_lines and any(field.required for field in _form(route.body, settings).fields.values())
    return {
        "required": is_required,
        "content": {media_type: {"schema": _schema(route.body), "example": _fitting(operation, settings)}},
    }


def _successes(route: Route, operation: Operation, settings: Settings, of_prefix: Json) -> Json:
    """Show the successful responses, by status. *of_prefix* has the parameters of the host's prefix, for links."""
    found: Json = {}
    for (status, component), answer in zip(route.answers.items(), operation.answers, strict=True):
        found[str(status)] = _success(component, answer, streams=route.streams)
        if operation.links and component:
            found[str(status)]["links"] = _links(operation, settings, of_prefix)
    return found


def _links(operation: Operation, settings: Settings, of_prefix: Json) -> Json:
    """Show the links to other operations that are served. All are below the same prefix."""
    return {
        name: {
            "operationId": link.endpoint,
            "parameters": {**of_prefix, **link.parameters},
            "description": link.description,
        }
        for name, link in ((name, LINKS[name]) for name in operation.links)
        if is_served(link.endpoint, settings)
    }


def _success(component: str | None, answer: Answer, *, streams: bool) -> Json:
    """Show a successful response. A stream begins before the state is known that headers would tell."""
    shown: Json = {"description": answer.description}
    if answer.headers:
        names = answer.headers.split()
        shown["headers"] = {
            name.rstrip("?"): _header(name.rstrip("?"), required=name[-1] != "?" and not streams) for name in names
        }
    if component:
        media_type = _MEDIA_TYPES.get(component, _JSON)
        shown["content"] = {media_type: {"schema": _schema(component), "example": answer.example}}
    if streams:
        shown["content"][EVENT_STREAM] = {"schema": ref(_EVENTS), "example": EVENTS_EXAMPLE}
    return shown


def _schema(component: str) -> Json:
    """Refer to a component, or to lines of it."""
    if component != _LINE:
        return ref(component)
    return {
        "type": "string",
        "description": "Lines of JSON.",
        "contentMediaType": JSON_LINES,
        "contentSchema": ref(component),
    }


def _failures(problems: Iterable[Problem], settings: Settings) -> Json:
    """Show the responses for errors, by status."""
    found: dict[str, dict[str, Json]] = {}
    waits: dict[str, list[bool]] = {}
    for shown in problems:
        if not _arises(shown, settings):
            continue
        body, retry_after = problem_json(shown.example, if_match=True)
        status = str(body["status"])
        found.setdefault(status, {})[shown.label or shown.slug] = body
        waits.setdefault(status, []).append(retry_after is not None)
    return {status: _failure(int(status), examples, waits[status]) for status, examples in sorted(found.items())}


def _arises(shown: Problem, settings: Settings) -> bool:
    """Tell whether an error can occur with these settings."""
    if isinstance(shown.example, CrossOrigin):
        return "*" not in settings.trusted_origins
    if isinstance(shown.example, TooManyTurns):
        return settings.max_turns_per_minute > 0
    if isinstance(shown.example, TooManySessions):
        return settings.max_sessions > 0
    return True


def _header(name: str, *, required: bool) -> Json:
    schema, example = SHOWN[name]
    shown: Any = int(example) if schema["type"] == "integer" else example
    return {"description": schema["description"], "required": required, "schema": schema, "example": shown}


def _failure(status: int, examples: dict[str, Json], waits: Collection[bool]) -> Json:
    """Show a response for errors. *waits* tells of each of them whether it names the time of a retry."""
    kinds = sorted({example["type"] for example in examples.values()})
    schema = {"allOf": [ref("Problem"), {"properties": {"type": {"enum": kinds}, "status": {"const": status}}}]}
    shown: Json = {
        "description": "; ".join(sorted({example["title"] for example in examples.values()})) + ".",
        "content": {PROBLEM: {"schema": schema, "examples": {name: {"value": examples[name]} for name in examples}}},
    }
    if any(waits):
        shown["headers"] = {"Retry-After": _header("Retry-After", required=all(waits))}
    return shown


# ---- parameters and bodies

_PATH: dict[str, tuple[Json, Any]] = {
    "session_id": (
        {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": f"^[^/{CONTROL}]+$"},
        EXAMPLE_ID,
    ),
    "turn": ({"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": TARGET}, "msg-2"),
    "seq": ({"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": TARGET}, "msg-1"),
}


def _path_parameter(name: str) -> Json:
    """Show a parameter of the path. A parameter that is not ours belongs to the host's prefix."""
    schema, example = _PATH.get(name, ({"type": "string", "minLength": 1}, "a"))
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def _query_parameters(route: Route, settings: Settings) -> list[Json]:
    if not route.query:
        return []
    form = _converted({"Query": _form(route.query, settings)})["Query"]
    parameters = []
    for name, schema in form["properties"].items():
        description = schema.pop("description")
        # A query cannot say null: what may be null may be left out.
        if isinstance(schema["type"], list):
            [schema["type"]] = [kind for kind in schema["type"] if kind != "null"]
        if schema.get("default", 0) is None:
            del schema["default"]
        required = {"required": True} if name in form.get("required", ()) else {}
        parameters.append({"name": name, "in": "query", "description": description, **required, "schema": schema})
    return parameters


def _header_parameters(route: Route, served: Served) -> list[Json]:
    parameters = []
    for name in route.headers:
        schema, example = GIVEN[name]
        description = schema["description"]
        if route.endpoint == "start_session" and not served.has_owners:
            schema = KEY_OF_NOBODY
        parameters.append(
            {"name": name, "in": "header", "description": description, "schema": schema, "example": example}
        )
    return parameters


def _form(name: str, settings: Settings) -> Schema:
    return schemas.forms(settings)[name]


def _bodies(settings: Settings) -> dict[str, Json]:
    """Make the components of request bodies."""
    names = {route.body for route in ROUTES if route.body and not route.takes_lines}
    return _converted({name: _form(name, settings) for name in sorted(names)})


def _converted(forms: Mapping[str, Schema]) -> dict[str, Json]:
    """Make components of marshmallow's forms, in a spec of their own, since a host's spec may lack the plugin."""
    from apispec import APISpec
    from apispec.ext.marshmallow import MarshmallowPlugin

    plugin = MarshmallowPlugin()
    spec = APISpec("", "", VERSION, plugins=[plugin])
    plugin.converter.add_attribute_function(_metadata_of)  # type: ignore[union-attr]
    for name, form in forms.items():
        spec.components.schema(name, schema=form)
    found: dict[str, Json] = spec.to_dict()["components"]["schemas"]
    return found


def _metadata_of(converter: Any, field: Any, **_: Any) -> Json:
    """Take over all of a field's metadata. apispec by itself leaves out some words of JSON Schema."""
    return dict(field.metadata)


def _fitting(operation: Operation, settings: Settings) -> Any:
    """Show the example of a body, without data fields that clients may not set."""
    example = operation.example
    if not isinstance(example, dict) or "data" not in example or settings.client_data is True:
        return example
    allowed = settings.client_data or ()
    return {**example, "data": {name: value for name, value in example["data"].items() if name in allowed}}
