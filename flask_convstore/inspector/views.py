"""The pages. A view looks, and shows what it sees. Only one of them changes anything: it deletes a session."""

from __future__ import annotations

from flask import Response, current_app, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from ..app.operator import Operator
from ..domain import json_text
from ..domain.results import Health
from ..errors import ConvstoreError, CorruptValue, InvalidInput
from ..http.problems import problem_json
from ..operations import backup, sessions
from .guard import Forms, Refused, has_key
from .one_session import MESSAGES, facts_of, see
from .overview import overview_of
from .pages import page
from .search import KINDS, MOST_LOOKED_AT, ORDERS, STATES, Question, access_to, search
from .state_line import state_line

_LIVE_SECONDS = {"overview": 5, "session": 3, "sessions": 10, "problem": 5}
"""Time between two looks of a page that follows live. A list walks through sessions, and is looked at less often."""

_UNSIGNED = "Deleting is off: the app has no SECRET_KEY to sign the form with."


class Views:
    """The views of one inspector.

    Args:
        name: The name of its blueprint.
        hide_text: Show sizes in the place of all that apps have written.
    """

    def __init__(self, name: str, operator: Operator, *, hide_text: bool) -> None:
        self._forms = Forms(name)
        self._operator = operator
        self._hide_text = hide_text

    def overview(self) -> Response:
        """Show how the store is, and how it was in the last hour."""
        health = self._health()
        return self._page("overview.html", "overview", health, **overview_of(self._operator, health))

    def sessions(self) -> Response:
        """Search for sessions."""
        question = _question()
        answer = search(self._operator, question, hide_text=self._hide_text)
        kinds = {kind: label for kind, label in KINDS.items() if kind != "title" or not self._hide_text}
        return self._page(
            "sessions.html",
            "sessions",
            self._health(),
            question=question,
            answer=answer,
            kinds=kinds,
            states=STATES,
            orders=ORDERS,
            most=MOST_LOOKED_AT,
            places=list(self._operator.places()),
            asked=_asked(question),
            is_live=not question.cursor,
            notice=self._notice(),
        )

    def session(self) -> Response:
        """Show one session."""
        place, session_id = _named()
        newer = _whole(request.args.get("newer", ""))
        seen = see(self._operator, place, session_id, newer, hide_text=self._hide_text)
        return self._page(
            "session.html",
            "session",
            self._health(),
            200 if seen.snapshot or seen.damage else 404,
            seen=seen,
            facts=facts_of(seen, seen.snapshot) if seen.snapshot else [],
            newer=newer,
            step=MESSAGES,
            is_live=seen.snapshot is not None and not newer,
            cannot_delete="" if has_key(current_app) else _UNSIGNED,
        )

    def export(self) -> Response:
        """Send a session as a line of the command ``export``."""
        if self._hide_text:
            raise Refused(403, "There is no export", "Text is hidden in this inspector, and an export would show it.")
        place, session_id = _named()
        access = access_to(self._operator, place)
        for one in backup.saved({place: access}, [(place, session_id)]):
            if one.line is None:
                raise CorruptValue(session_id, one.problem)
            answer = Response(json_text.write(one.line) + b"\n", mimetype="application/x-ndjson")
            answer.headers.set("Content-Disposition", "attachment", filename="session.jsonl")
            return answer
        raise _gone(session_id)

    def confirm(self) -> Response:
        """Ask before a session is deleted."""
        place, session_id = _named()
        token, value = self._forms.make((place, session_id))
        seen = see(self._operator, place, session_id, 0, hide_text=self._hide_text)
        if not seen.snapshot and not seen.damage:
            raise _gone(session_id)
        answer = self._page("delete.html", "confirm", self._health(), seen=seen, token=token)
        return self._forms.give(answer, value, url_for(".overview"))

    def delete(self) -> AnyResponse:
        """Delete a session, and go back to the list."""
        place, session_id = request.form.get("place", "sessions"), request.form.get("id", "")
        self._forms.check(request.form.get("token", ""), (place, session_id))
        receipt = sessions.delete(access_to(self._operator, place), session_id)
        notice = self._forms.note("gone" if receipt is None else "deleted", session_id)
        return redirect(url_for(".sessions", place=place, notice=notice), 303)

    def problem(self, error: ConvstoreError) -> Response:
        """Show an error."""
        if isinstance(error, Refused):
            status, title = error.status, error.title
        else:
            told, _ = problem_json(error, if_match=False)
            status, title = int(told["status"]), str(told["title"])
        is_away = status == 503
        return self._page(
            "problem.html",
            "problem",
            self._health(),
            status,
            title=title,
            text=str(error),
            is_away=is_away,
            is_live=is_away and request.method == "GET",
        )

    def _page(self, template: str, name: str, health: Health, status: int = 200, **values: object) -> Response:
        """Show a page with the line of the state on top."""
        is_live = bool(values.pop("is_live", status == 200))
        return page(
            template,
            status,
            line=state_line(health),
            page=name,
            live_seconds=_LIVE_SECONDS.get(name, 0) if is_live else 0,
            hide_text=self._hide_text,
            store=self._operator.state.convstore.name,
            notice=values.pop("notice", ""),
            **values,
        )

    def _health(self) -> Health:
        return self._operator.health()

    def _notice(self) -> str:
        """Read the notice of the page before. Nobody else can make one."""
        if not has_key(current_app) or "notice" not in request.args:
            return ""
        kind, session_id = (*self._forms.noted(request.args["notice"]), "", "")[:2]
        texts = {"deleted": "{} was deleted.", "gone": "{} was gone already."}
        return texts[kind].format(session_id) if kind in texts else ""


def _question() -> Question:
    args = request.args
    return Question(
        text=args.get("q", "").strip(),
        kind=args.get("by") or "id",
        state=args.get("state") or "any",
        order=args.get("sort") or "changed",
        place=args.get("place") or "sessions",
        cursor=args.get("cursor", ""),
        start=_whole(args.get("start", "")),
    )


def _asked(question: Question) -> dict[str, str]:
    """Make the query of the same search, from its beginning."""
    query = {"q": question.text, "by": question.kind, "state": question.state, "sort": question.order}
    return {**query, "place": question.place}


def _named() -> tuple[str, str]:
    """Read the place and the id of the session that a request names."""
    session_id = request.args.get("id", "")
    if not session_id:
        raise InvalidInput("name a session", "id")
    return request.args.get("place") or "sessions", session_id


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _gone(session_id: str) -> Refused:
    return Refused(404, "No such session", f"{session_id} is not there, or not any more. Nothing was changed.")
