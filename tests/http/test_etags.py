"""ETags in requests: as servers and middleware on the way change them, malformed, and what caches are told."""

from __future__ import annotations

from typing import Any

import pytest

from flask_convstore.http.etags import BadEtag, states_of
from flask_convstore.http.routes import EVENT_STREAM, ROUTES

from ..service import OwnedService, Service, in_memory, path_of, problem

ON_THE_WAY = {
    "as it was": '"{}"',
    "nginx, which compresses": 'W/"{}"',
    "Flask-Compress": '"{}:gzip"',
    "Flask-Compress, brotli": '"{}:br"',
    "Apache": '"{}-gzip"',
    "Apache, brotli": '"{}-br"',
    "Jetty": '"{}--gzip"',
    "Caddy behind nginx": 'W/"{}-zstd"',
    "among others": '"0-0", W/"x",, "{}" ,"abc"',
}
BAD = ["", " ", '""', '"', "x", "1-1", '"1-1', ",", '"",', '"a" "b"', '*, "1-1"', '"a b"', "W/", 'w/"1-1"', '"1-1"x']


@pytest.mark.parametrize("form", ON_THE_WAY.values(), ids=ON_THE_WAY)
def test_an_etag_that_was_changed_on_the_way_names_its_state(url: str, form: str) -> None:
    """If-Match never succeeded behind any of these, and nothing could be changed with care."""
    service = Service(url)
    path = f"/sessions/{service.start(message={'content': 'hi'})}"
    changes: list[tuple[str, str, Any]] = [
        ("PATCH", "", {"title": "t"}),
        ("POST", "/messages", {"content": "x"}),
        ("PATCH", "/messages/1", {"content": "y"}),
        ("DELETE", "/messages/1", None),
        ("DELETE", "", None),
    ]
    for method, rest, body in changes:
        got = service.client.get(path)
        tag = form.format(got.headers["ETag"].strip('"'))
        assert service.client.get(path, headers={"If-Match": tag}).status_code == 200
        unchanged = service.client.get(path, headers={"If-None-Match": tag})
        assert (unchanged.status_code, unchanged.headers["ETag"]) == (304, got.headers["ETag"])
        changed = service.client.open(path + rest, method=method, json=body, headers={"If-Match": tag})
        assert changed.status_code < 300, changed.data
        if path + rest != path or method != "DELETE":
            again = service.client.open(path + rest, method=method, json=body, headers={"If-Match": tag})
            problem(again, 412, "precondition-failed")
            problem(service.client.get(path, headers={"If-Match": tag}), 412, "precondition-failed")
            assert service.client.get(path, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("tag", ['"x"', '"1-1"', 'W/"1-1:gzip"', '"1-1-gzip-gzip"', '"1-1gzip"', '"1-1:"', '"-"'])
def test_another_etag_names_no_state_of_the_session(service: Service, tag: str) -> None:
    path = f"/sessions/{service.start()}"
    for method in ("GET", "DELETE", "PATCH"):
        body: Any = {} if method == "PATCH" else None
        response = service.client.open(path, method=method, headers={"If-Match": tag}, json=body)
        problem(response, 412, "precondition-failed")
    assert service.client.get(path, headers={"If-Match": "*"}).status_code == 200
    assert service.client.get(path, headers={"If-None-Match": tag}).status_code == 200


@in_memory
@pytest.mark.parametrize("header", BAD)
def test_an_if_match_that_is_no_list_of_etags_is_400(url: str, header: str) -> None:
    """An empty ETag was a 500 on five routes, an empty header was ignored, and the rest was a 412."""
    service = Service(url)
    session_id = service.start(message={"content": "hi"})
    bodies: dict[str, Any] = {"Continue": {"content": "x"}, "Edit": {"content": "x"}, "Update": {"title": "x"}}
    routes = [route for route in ROUTES if "If-Match" in route.headers]
    assert len(routes) == 7
    for route in routes:
        path = path_of(route.rule, session_id)
        response = service.client.open(
            f"{path}?after=1" if route.query == "DropQuery" else path,
            method=route.method,
            json=bodies.get(route.body),
            headers={"If-Match": header},
        )
        assert problem(response, 400, "bad-etag")["written"] is False
    assert service.get(session_id)["version"] == 1
    got = service.client.get(f"/sessions/{session_id}", headers={"If-None-Match": header})
    assert got.status_code == 200, "a read loses nothing by it"


def test_a_long_header_is_read_to_its_end_once() -> None:
    """With a pattern that can match in two ways this would not end."""
    for header in (f'"a"{" ," * 3998}x', f'"a"{" " * 7990}x', "W/" * 4000, '"a",' * 10_000):
        with pytest.raises(BadEtag):
            states_of(header)
    assert states_of('"1-2", ' * 1000 + '"3-4"') == ["1-2", "3-4"]


# ---- caches


def test_what_caches_and_browsers_are_told(url: str) -> None:
    """Only an answer that names a state is kept, and asked for anew each time. All else is not kept."""
    service = OwnedService(url)
    session_id = service.json(service.call("ada", "POST", json={"message": {"content": "hi"}}), 201)["session_id"]
    bodies: dict[str, Any] = {"Continue": {"content": "x"}, "Edit": {"content": "x"}, "Compact": {"summary": "x"}}
    seen = set()
    for route in sorted(ROUTES, key=lambda route: route.method == "DELETE"):
        sent: dict[str, Any] = {"json": bodies.get(route.body, {})} if route.body and not route.takes_lines else {}
        path = path_of(route.rule, session_id).removeprefix("/sessions")
        if route.takes_lines:
            sent = {"data": b"", "content_type": "application/x-ndjson"}
        for whose in ("ada", "bob", None):
            response = service.call(whose, route.method, path, **sent)
            kept = "private, no-cache" if "ETag" in response.headers else "no-store"
            kept += ", no-transform" * (response.mimetype == "text/event-stream")
            if response.mimetype == EVENT_STREAM:
                kept = "no-store, no-transform"
                response.close()  # it would never end
            response.get_data()  # an export is made as it is read
            if not (route.endpoint in ("openapi", "script") and response.status_code == 200):
                assert response.headers["Cache-Control"] == kept, (route.endpoint, response.status_code)
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert set(response.vary) == (set() if route.is_for_service else {"Cookie", "Authorization"})
            seen.add((route.endpoint, response.status_code < 300))
    assert {endpoint for endpoint, is_success in seen if is_success} >= {"delete_sessions", "health", "get_session"}


def test_headers_of_the_app_stay(url: str) -> None:
    service = Service(url)

    @service.app.after_request
    def own(response: Any) -> Any:
        response.headers["Cache-Control"] = "private, max-age=5"
        return response

    service.app.get("/own")(lambda: "hello")
    response = service.client.get("/sessions/none")
    assert response.headers["Cache-Control"] == "private, max-age=5"
    assert "X-Content-Type-Options" not in service.client.get("/own").headers
