"""The HTTP door: load, call, dump.

| route                                    | endpoint         | answers                                                |
| ---------------------------------------- | ---------------- | ------------------------------------------------------ |
| POST   /                                 | start_session    | 201 session, Location, ETag; 200 where an alias leads  |
| GET    /?cursor=&limit=                  | list_sessions    | 200 {sessions, next}                                   |
| DELETE /                                 | delete_sessions  | 200 {deleted, complete}                                |
| GET    /export?cursor=                   | export_sessions  | 200 JSON Lines                                         |
| POST   /import                           | import_sessions  | 200 {imported}                                         |
| GET    /<session_id>?last=k              | get_session      | 200 session, ETag; 304                                 |
| PATCH  /<session_id>                     | update_session   | 200 session without its history                        |
| DELETE /<session_id>                     | delete_session   | 200 {"status": "deleted"}                              |
| POST   /<session_id>/messages            | continue_session | 201 {session_id, version, message, reply}              |
| GET    /<session_id>/messages?before=&limit= | list_messages | 200 {messages, next}                                  |
| PATCH  /<session_id>/messages/<seq>      | edit_message     | 200 {session_id, version, message}                     |
| DELETE /<session_id>/messages/<seq>      | redact_message   | 200 {session_id, version, message}                     |
| POST   /<session_id>/compact             | compact_session  | 201 session, Location, ETag                            |
| POST   /<session_id>/fork                | fork_session     | 201 session, Location, ETag                            |
| GET    /health                           | health           | 200, 503                                               |
| GET    /openapi.json                     | openapi          | 200 the document of these routes                       |

What goes wrong is an exception; ``problems`` has the one table that gives its status. ``CONVSTORE_ROUTES`` names the
endpoints that there are; the others are a 404 of the host's.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Response, abort, request, url_for
from flask.blueprints import BlueprintSetupState
from marshmallow import Schema
from werkzeug.routing import BaseConverter

from ..config import ENDPOINTS, Settings
from ..domain import json_text
from ..domain.clock import as_datetime
from ..domain.messages import Message
from ..domain.results import Receipt
from ..domain.validation import MAX_SEQ, check_name
from ..errors import (
    ConflictError,
    ConvstoreError,
    InvalidInput,
    MessageNotFound,
    OwnerRequired,
    SessionNotFound,
    behind_a_write,
)
from ..operations import aliases, branching, messages, updates
from ..operations.replies import Replier, converse
from ..operations.sessions import Conversations
from ..sessions.content import title_of
from ..sessions.session import AnySession
from . import schemas
from .openapi import document
from .owner_views import OwnerViews
from .problems import problem
from .request import limit_body, parser
from .response import answer, etag, marked, tagged

_BODY_SLACK = 65_536
_ESCAPED = 3
"""How much longer than in UTF-8 a text can get when a client escapes it: an emoji of 4 bytes takes 12."""


def make_blueprint(
    name: str,
    conversations: Conversations,
    replier: Callable[[], Replier | None],
    served: Callable[[str], document.Served],
) -> Blueprint:
    """The blueprint of one store.

    Args:
        replier: Gives what replies, if anything does.
        served: Tells what the app serves of it, under the name that the blueprint is registered with.
    """
    views, of_owners = _Views(conversations, replier, served), OwnerViews(conversations)
    blueprint = Blueprint(name, __name__, url_prefix="/sessions")
    blueprint.record(_add_converter)
    for endpoint, rule, method in ENDPOINTS:
        view = getattr(of_owners, endpoint, None) or getattr(views, endpoint)
        blueprint.add_url_rule(rule, endpoint, view, methods=[method])
    blueprint.before_request(views.check_route)
    blueprint.register_error_handler(ConvstoreError, problem)
    return blueprint


class _SessionIds(BaseConverter):
    """Ids in paths. Beside them are routes with names of their own, which have not the methods of a session."""

    regex = (
        f"(?!(?:{'|'.join(re.escape(rule[1:]) for _, rule, _ in ENDPOINTS if re.fullmatch('/[a-z.]+', rule))})$)[^/]+"
    )
    part_isolating = True


def _add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["convstore_id"] = _SessionIds


class _Views:
    def __init__(
        self,
        conversations: Conversations,
        replier: Callable[[], Replier | None],
        served: Callable[[str], document.Served],
    ) -> None:
        self._conversations = conversations
        self._replier = replier
        self._served = served

    def check_route(self) -> None:
        """A route that is switched off is none of ours."""
        routes = self._settings.routes
        if routes is not True and not (routes and (request.endpoint or "").rpartition(".")[2] in routes):
            abort(404)

    # ---- sessions

    def start_session(self) -> Response:
        """Start a session; with a message, answer it too."""
        body = self._body(schemas.start_body)
        key = self._idempotency_key("start")
        message = _message(body["message"]) if body["message"] else None
        replier = self._replier() if message else None
        content = {**body["data"], self._settings.history_key: [message] if message and not replier else []}
        digest = hashlib.blake2b(json_text.dump(body), digest_size=8).hexdigest()
        if body["alias"] is not None:
            return self._start_by_alias(body, content, message, key)
        # The same key leads to the same session.
        session, receipt = self._conversations.start(content, message, ttl=body.get("ttl"), token=key, digest=digest)
        session_id = session.session_id
        if receipt.repeated and not receipt.expires_at_ms:
            raise SessionNotFound(session_id)
        last_seq = 1 if message else 0
        if replier or receipt.repeated:
            with behind_a_write():
                if message and replier:
                    turn = f"{key}/turn" if key else None
                    exchange = converse(self._conversations, session_id, message, replier, token=turn, is_counted=False)
                    receipt = exchange.receipt
                    last_seq = max([last_seq, *(found.seq for found in (exchange.message, exchange.reply) if found)])
                session = self._conversations.existing_session(session_id)
        shown = self._started_json(session, receipt, last_seq)
        shown["title"] = (title_of(message.body) if message else "") or None
        if key:  # what was asked for, whatever has changed since
            shown["data"] = body["data"]
        return _located(answer(shown, 201, receipt), session_id)

    def _start_by_alias(
        self, body: dict[str, Any], content: dict[str, Any], message: Message | None, key: str | None
    ) -> Response:
        """The session that an outside id leads to, or a new one; with a message, it goes on."""
        if not isinstance(self._conversations.caller(), str):
            raise OwnerRequired
        content[self._settings.history_key] = []
        alias, ttl = body["alias"], body.get("ttl")
        found = aliases.resolve(self._conversations, alias)
        if message or found is None:
            self._conversations.spend(self._conversations.caller())
        session = aliases.ensure(self._conversations, alias, data=content, ttl=ttl) if found is None else found
        if message:
            token, replier = f"{key}/turn" if key else None, self._replier()
            with behind_a_write() if found is None else contextlib.nullcontext():
                converse(self._conversations, session.session_id, message, replier, token=token, is_counted=False)
            with behind_a_write():
                session = self._conversations.existing_session(session.session_id)
        return _located(answer(self._session_json(session), 201 if found is None else 200, session), session.session_id)

    def get_session(self, session_id: str) -> Response:
        """The session; 304 if the client has this state of it."""
        query = parser.parse(schemas.GET_QUERY, request, location="query")
        session = self._conversations.existing_session(session_id, last=query["last"])
        if request.headers.get("If-Match") and not request.if_match.contains(etag(session)):
            raise ConflictError(session_id, "version", expected=None, actual=session.version)
        if request.if_none_match.contains_weak(etag(session)):
            return tagged(Response(status=304), session)
        return answer(self._session_json(session), 200, session)

    def update_session(self, session_id: str) -> Response:
        """Set data fields (null removes one), the title, the lifetime."""
        body = self._body(schemas.update_body)
        data = {name: value for name, value in body.get("data", {}).items() if value is not None}
        receipt = updates.update(
            self._conversations,
            session_id,
            data,
            removed=tuple(name for name in body.get("data", {}) if name not in data),
            title=body["title"] or "" if "title" in body else None,
            ttl=body.get("ttl"),
            expected=self._expected(session_id),
        )
        with behind_a_write():
            session = self._conversations.existing_session(session_id, last=0)
        shown = self._session_json(session)
        del shown["history"]
        return answer({**shown, "version": max(receipt.version, session.version)}, 200, session)

    def delete_session(self, session_id: str) -> Response:
        """Delete the session."""
        receipt = self._conversations.deleted(session_id, expected=self._expected(session_id))
        if receipt is None:
            raise SessionNotFound(session_id)
        return marked({"status": "deleted"}, 200, receipt.fallback)

    def compact_session(self, session_id: str) -> Response:
        """Go on in a new session, which begins with a summary."""
        body = self._body(schemas.compact_body)
        # Clients do not write in the name of the system, unless they may.
        role = "system" if "system" in self._settings.client_roles else schemas.first_role(self._settings)
        summary = {"role": role, "content": body["summary"]}
        session = branching.compact(self._conversations, session_id, summary, keep=body["keep"])
        return _located(answer(self._session_json(session), 201, session), session.session_id)

    def fork_session(self, session_id: str) -> Response:
        """Go on twice, from a message on."""
        body = self._body(schemas.FORK_BODY)
        session = branching.fork(self._conversations, session_id, body["seq"])
        return _located(answer(self._session_json(session), 201, session), session.session_id)

    def health(self) -> Response:
        """Whether sessions can be served."""
        health = self._conversations.health(brief=True)
        return answer(health.public(), 200 if health.connected or health.can_start else 503)

    def openapi(self) -> Response:
        """What there is, as a document of OpenAPI."""
        served = self._served((request.endpoint or "").rpartition(".")[0])
        return answer(document.document(served, request.root_path or "/"), 200)

    # ---- messages

    def continue_session(self, session_id: str) -> Response:
        """Add a user's message, and the reply to it."""
        body = self._body(schemas.continue_body)
        token = self._idempotency_key("continue")
        replier = self._replier()
        exchange = converse(
            self._conversations, session_id, _message(body), replier, token=token, expected=self._expected(session_id)
        )
        shown = {
            "session_id": session_id,
            "version": exchange.receipt.version,
            "message": self._shown(exchange.message),
            "reply": self._shown(exchange.reply),
        }
        if exchange.previous:
            shown["previous"] = self._shown(exchange.previous)
        return answer(shown, 201, exchange.receipt)

    def list_messages(self, session_id: str) -> Response:
        """A page of messages, oldest first."""
        query = parser.parse(schemas.MESSAGES_QUERY, request, location="query")
        page = messages.page(self._conversations, session_id, before=query["before"], limit=query["limit"])
        response = marked({"messages": self._all_shown(page.messages), "next": page.next}, 200, page.fallback)
        response.headers["Cache-Control"] = "private, no-cache"
        return response

    def edit_message(self, session_id: str, seq: str) -> Response:
        """Put another content in the place of a message of the client's."""
        body = self._body(schemas.EDIT_BODY)
        token = self._idempotency_key("edit")
        message, receipt = messages.edit(
            self._conversations,
            session_id,
            _seq(session_id, seq),
            lambda before: {**(before if isinstance(before, dict) else {}), "content": body["content"]},
            metadata=body["metadata"],
            expected=self._expected(session_id),
            roles=self._settings.client_roles,
            token=token,
            told=json_text.dump(body["content"]).decode(),
        )
        return self._changed(session_id, message, receipt)

    def redact_message(self, session_id: str, seq: str) -> Response:
        """Remove what a message says, for good."""
        message, receipt = messages.redact(
            self._conversations,
            session_id,
            _seq(session_id, seq),
            expected=self._expected(session_id),
            roles=(*self._settings.visible_roles, None),
        )
        return self._changed(session_id, message, receipt)

    def _changed(self, session_id: str, message: Message, receipt: Receipt) -> Response:
        shown = {"session_id": session_id, "version": receipt.version, "message": self._shown(message)}
        return answer(shown, 200, receipt)

    # ---- what requests say

    @property
    def _settings(self) -> Settings:
        return self._conversations.backend.settings

    def _body(self, schema: Callable[[Settings], Schema] | Schema) -> dict[str, Any]:
        """The request's body by *schema*; bounded before it is read."""
        settings = self._settings
        largest = settings.max_message_bytes + settings.max_data_bytes
        limit_body(request, _ESCAPED * largest + _BODY_SLACK)
        form = schema if isinstance(schema, Schema) else schema(settings)
        body: dict[str, Any] = parser.parse(form, request, location="json")
        return body

    def _idempotency_key(self, route: str) -> str | None:
        """A token for what the client calls by a key of its own: 32 hexadecimal digits, for this route and owner only."""
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return None
        owner = self._conversations.caller()
        check_name(key, "Idempotency-Key")
        if route == "start" and not isinstance(owner, str) and not _is_uuid(key):
            # The session's id is made from it, and without an owner the id is all that protects the session.
            raise InvalidInput("without an owner it must be a UUID; nothing was written", "Idempotency-Key")
        scope = f"{route}\n{owner if isinstance(owner, str) else ''}\n{key}"
        return hashlib.blake2b(scope.encode(), digest_size=16).hexdigest()

    def _expected(self, session_id: str) -> str:
        """The state that If-Match asks for, of several the one that the session is in; "" any."""
        if not request.headers.get("If-Match") or request.if_match.star_tag:
            return ""
        tags = [tag for tag in request.if_match if re.fullmatch(r"\d{1,16}-\d{1,16}", tag)]
        if len(tags) > 1:
            state = etag(self._conversations.existing_session(session_id, last=0))
            tags = [tag for tag in tags if tag == state]
        return tags[0] if tags else "0-0"  # none of ours, or weak: no state is this

    # ---- what is shown

    def _shown(self, message: Message | None) -> dict[str, Any] | None:
        return schemas.message_json(message) if message and schemas.is_visible(message, self._settings) else None

    def _all_shown(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        settings = self._settings
        return [schemas.message_json(message) for message in messages if schemas.is_visible(message, settings)]

    def _started_json(self, session: AnySession, receipt: Receipt, last_seq: int) -> dict[str, Any]:
        """A session as its start left it, whatever came since: a repeated start gets the first answer."""
        shown = self._session_json(session)
        shown.update(
            version=receipt.version,
            updated_at=schemas.timestamp(as_datetime(receipt.updated_at_ms)),
            expires_at=schemas.timestamp(as_datetime(receipt.updated_at_ms + receipt.lifetime_ms)),
            message_count=last_seq,
            history=[message for message in shown["history"] if message["seq"] <= last_seq],
        )
        return shown

    def _session_json(self, session: AnySession) -> dict[str, Any]:
        return schemas.session_json(session, self._all_shown(session.messages), self._conversations.data_of(session))


def _located(response: Response, session_id: str) -> Response:
    response.headers["Location"] = url_for(".get_session", session_id=session_id)
    return response


def _seq(session_id: str, text: str) -> int:
    """The number that a path names. What is none is a message that is not there: our 404, not the host's."""
    seq = int(text) if re.fullmatch("[0-9]{1,16}", text) else 0
    if not 1 <= seq < MAX_SEQ:
        raise MessageNotFound(session_id, seq)
    return seq


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _message(body: dict[str, Any]) -> Message:
    return Message({"role": body["role"], "content": body["content"]}, body["metadata"])
