"""Pages of other sites change nothing, by whatever the app knows its user. Its own pages and programs do."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_convstore import ConfigurationError, ConversationStore

from ..attack import cross_site
from ..service import Service, problem


def test_other_sites_are_kept_out_and_nobody_else() -> None:
    assert cross_site.findings(every=11) == []


def test_the_error_names_the_origin_and_the_setting(url: str) -> None:
    service = Service(url)
    found = problem(service.client.post("/sessions", headers={"Origin": "https://app.example"}), 403, "cross-origin")
    assert "'https://app.example'" in found["detail"]
    assert "CONVSTORE_TRUSTED_ORIGINS" in found["detail"]
    found = problem(service.client.post("/sessions", headers={"Sec-Fetch-Site": "cross-site"}), 403, "cross-origin")
    assert "CONVSTORE_TRUSTED_ORIGINS" in found["detail"]


def test_a_star_trusts_all(url: str) -> None:
    service = Service(url, TRUSTED_ORIGINS="*")
    for headers in cross_site.EVIL:
        assert service.client.post("/sessions", headers=headers).status_code == 201
    operation = service.client.get("/sessions/openapi.json").json["paths"]["/sessions"]["post"]  # type: ignore[index]
    assert "403" not in operation["responses"]


def test_a_host_in_another_script_is_its_own_origin(url: str) -> None:
    """The host was compared after its decoding, the origin before."""
    client = Service(url).client
    for host in ("xn--mnchen-3ya.example", "[::1]:5000", "localhost:80", "LOCALHOST"):
        origin = f"http://{host.lower().removesuffix(':80')}"
        response = client.post("/sessions", headers={"Host": host, "Origin": origin})
        assert response.status_code == 201, host


@pytest.mark.parametrize(
    "origins", ["https://app.example/", "app.example", "https://*.example", "null", ["https://App.example"], "https://"]
)
def test_what_is_no_origin_is_refused(origins: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"CONVSTORE_TRUSTED_ORIGINS names .* such as 'https://app.example'"):
        Service("memory://", TRUSTED_ORIGINS=origins)
    Service("memory://", TRUSTED_ORIGINS="https://app.example, capacitor://localhost, http://localhost:5173")


def test_each_store_trusts_its_own(url: str) -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=url, NOTES_PREFIX="notes:", NOTES_TRUSTED_ORIGINS="https://app.example")
    ConversationStore(app).init_app(app)
    chats = ConversationStore(app, name="chats", config_prefix="NOTES")
    app.register_blueprint(app.extensions["convstore"]["convstore"].convstore.blueprint)
    app.register_blueprint(chats.blueprint, url_prefix="/notes")
    client, headers = app.test_client(), {"Origin": "https://app.example"}
    assert client.post("/sessions", headers=headers).status_code == 403
    assert client.post("/notes", headers=headers).status_code == 201
