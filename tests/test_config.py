"""Settings: found in their order, converted, bounded, all problems at once, no secret shown."""

from __future__ import annotations

import dataclasses
import logging
from datetime import timedelta
from typing import Any

import pytest

from flask_convstore.config import Settings, load_settings
from flask_convstore.errors import ConfigurationError
from flask_convstore.urls import masked


def test_defaults() -> None:
    settings = load_settings({}, {})
    assert settings == Settings()
    assert (settings.url, settings.prefix, settings.ttl, settings.ttl_complete) == (
        "redis://localhost:6379/0",
        "chat:session:",
        3600,
        86400,
    )


def test_config_wins_over_environment() -> None:
    environ = {"CONVSTORE_TTL": "10", "CONVSTORE_RETRIES": "7"}
    settings = load_settings({"CONVSTORE_TTL": 20, "CONVSTORE_PREFIX": None}, environ)
    assert (settings.ttl, settings.retries, settings.prefix) == (20, 7, "chat:session:")


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"CONVSTORE_URL": "redis://a/1", "REDIS_URL": "redis://b"}, "redis://a/1"),
        ({"REDIS_URL": "rediss://b/2", "REDIS_HOST": "c"}, "rediss://b/2"),
        ({"REDIS_HOST": "c"}, "redis://c:6379/0"),
        (
            {"REDIS_HOST": "c", "REDIS_PORT": "7", "REDIS_PASSWORD": "p@s/s:w", "REDIS_DB": "3"},
            "redis://:p%40s%2Fs%3Aw@c:7/3",
        ),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/0"),
        ({"REDIS_DB": "4"}, "redis://localhost:6379/4"),
        ({"REDIS_HOST": "c", "REDIS_PORT": "tcp://10.0.0.1:6380"}, "redis://c:6380/0"),
        ({"REDIS_URL": ""}, "redis://localhost:6379/0"),
    ],
)
def test_the_url_from_the_environment(environ: dict[str, str], url: str) -> None:
    assert load_settings({}, environ).url == url


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://h", "redis://us:p%2Fw@h/5"),
        ("redis://h:1/2", "redis://us:p%2Fw@h:1/2"),
        ("rediss://u@h", "rediss://u:p%2Fw@h/5"),
        ("redis://:x@h/", "redis://us:x@h/5"),
        ("redis://h?db=3", "redis://us:p%2Fw@h?db=3"),
        ("redis://h/0?password=x", "redis://h/0?password=x"),
        ("redis://[::1]:7", "redis://us:p%2Fw@[::1]:7/5"),
        ("redis://h/0?ssl_ca_certs=/x@y", "redis://us:p%2Fw@h/0?ssl_ca_certs=/x@y"),
        ("redis+sentinel://a:1,b:2/m/0", "redis+sentinel://us:p%2Fw@a:1,b:2/m/0"),
        ("redis+cluster://a:1", "redis+cluster://us:p%2Fw@a:1"),
        ("valkeys://h", "rediss://us:p%2Fw@h/5"),
        ("unix:///x", "unix:///x"),
        ("memory://", "memory://"),
    ],
)
def test_a_url_is_completed_by_its_parts(url: str, whole: str) -> None:
    """Those of the URL come first. ``CONVSTORE_URL`` is whole."""
    environ = {"REDIS_URL": url, "REDIS_PASSWORD": "p/w", "REDIS_USERNAME": "us", "REDIS_DB": "5"}
    assert load_settings({}, environ).url == whole
    assert load_settings({"CONVSTORE_URL": url}, environ).url == url.replace("valkeys", "rediss")


@pytest.mark.parametrize(
    ("url", "same"), [("valkey://h", "redis"), ("valkeys://h", "rediss"), ("valkey+cluster://h", "redis+cluster")]
)
def test_the_schemes_of_valkey(url: str, same: str) -> None:
    assert Settings(url=url).url == f"{same}://h"


@pytest.mark.parametrize("character", "/#?[]")
@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "valkey"])
def test_a_raw_character_in_a_password_is_named(scheme: str, character: str) -> None:
    for credentials in (f":se{character}cret", f"user:se{character}cret"):
        with pytest.raises(ConfigurationError, match="percent-encode") as caught:
            Settings(url=f"{scheme}://{credentials}@host:6379/0")
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://h/0?client_name=a@b", "redis://:a@b@h", "redis://u:p@h:1/0?x=c@d/e", "redis://[::1]:7/0"]
)
def test_an_at_sign_elsewhere_is_no_mistake(url: str) -> None:
    assert Settings(url=url).url == url


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("PASSWORD", "CONVSTORE_URL, as in redis://user:password@host"),
        ("DB", "CONVSTORE_URL, as in redis://"),
        ("SSL", "CONVSTORE_URL, as in rediss://"),
        ("MAX_HISTORYS", "did you mean CONVSTORE_MAX_HISTORY"),
    ],
)
def test_hints_lead_nobody_astray(name: str, cure: str) -> None:
    with pytest.raises(ConfigurationError, match=cure) as caught:
        load_settings({f"CONVSTORE_{name}": "x"}, {})
    assert str(caught.value).count("CONVSTORE_") == 2


def test_lifetimes_may_be_timedeltas() -> None:
    config = {
        "CONVSTORE_TTL": timedelta(hours=2),
        "CONVSTORE_MAX_AGE": timedelta(days=3),
        "CONVSTORE_CONVERSATION_TTL": None,
    }
    settings = load_settings(config, {})
    assert (settings.ttl, settings.max_age, settings.conversation_ttl) == (7200, 259_200, 604_800)


@pytest.mark.parametrize("never", [0, -1, float("inf"), "inf", timedelta(0), "never", "None"])
@pytest.mark.parametrize("name", ["TTL", "TTL_COMPLETE", "MAX_TTL", "MAX_AGE", "CONVERSATION_TTL"])
def test_never_is_refused_with_the_longest(name: str, never: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"CONVSTORE_{name} must be .* for ever.* the longest is 315360000"):
        load_settings({f"CONVSTORE_{name}": never}, {})


def test_the_lifetime_from_the_environment() -> None:
    assert load_settings({}, {"REDIS_CONVERSATION_TTL": "120"}).ttl == 120
    assert load_settings({}, {"REDIS_CONVERSATION_TTL": "120", "CONVSTORE_TTL": "60.5"}).ttl == 60.5


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("CLIENT_TTL", "yes", True),
        ("CLIENT_TTL", "0", False),
        ("CLIENT_TTL", True, True),
        ("CLIENT_DATA", "off", False),
        ("CLIENT_DATA", "name, goal", ("name", "goal")),
        ("CLIENT_DATA", ["name"], ("name",)),
        ("CLIENT_ROLES", "user,tool", ("user", "tool")),
        ("HISTORY_KEY", "log", ("log",)),
        ("HISTORY_KEY", "log, messages", ("log", "messages")),
        ("HISTORY_KEY", ["a,b"], ("a,b",)),
        ("TTL", 1, 1),
        ("TTL", 1.5, 1.5),
        ("RETRIES", "0", 0),
    ],
)
def test_values_are_converted(name: str, given: Any, value: Any) -> None:
    assert getattr(load_settings({f"CONVSTORE_{name}": given}, {}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("TTL", "soon", "a number, not 'soon'"),
        ("TTL", 0, "1 to 315360000"),
        ("TTL", float("nan"), "1 to 315360000"),
        ("TTL", float("inf"), "1 to 315360000"),
        ("TTL", True, "a number"),
        ("TTL", "", "a number, not ''"),
        ("TTL", False, "a number, not False"),
        ("RETRIES", 1.5, "a whole number"),
        ("RETRIES", -1, "0 to 100"),
        ("CLIENT_TTL", "maybe", "true or false"),
        ("CLIENT_TTL", 1, "true or false"),
        ("CLIENT_ROLES", [1], "names"),
        ("PREFIX", "a{b}", "brace"),
        ("PREFIX", "a\n", "control"),
        ("HISTORY_KEY", "", "empty"),
        ("HISTORY_KEY", " , ", "empty"),
        ("HISTORY_KEY", ("history", ""), "empty"),
        ("HISTORY_KEY", "history,log,history", "twice"),
        ("HISTORY_KEY", [None], "names"),
        ("HISTORY_KEY", ["a\n"], "control"),
        ("URL", "http://host", "'http'"),
        ("URL", "redis://host:port", "port"),
        ("URL", "memory", "not with one of"),
        ("URL", "redis://host/abc", "no database number"),
        ("URL", "redis://:12/secret@host/0", "%2F"),
        ("CLIENT_ROLES", [], "empty"),
        ("URL", "unix://redis.sock", "three slashes"),
        ("URL", 5, "a text"),
    ],
)
def test_bad_values_are_refused_by_name(name: str, given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({f"CONVSTORE_{name}": given}, {f"CONVSTORE_{name}": "overruled"})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"CONVSTORE_{name}")
    assert said in str(caught.value)


def test_all_problems_come_together() -> None:
    config = {"CONVSTORE_TLL": 1, "CONVSTORE_NONSENSE": 2, "CONVSTORE_TTL": "x", "CONVSTORE_MAX_TOKENS": 0}
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, {})
    assert len(caught.value.problems) == 4
    assert "did you mean CONVSTORE_TTL?" in str(caught.value)


def test_a_bad_value_in_a_common_name_is_told_by_that_name() -> None:
    with pytest.raises(ConfigurationError, match="REDIS_CONVERSATION_TTL must be a number, not 'soon'"):
        load_settings({}, {"REDIS_CONVERSATION_TTL": "soon"})
    with pytest.raises(ConfigurationError, match="database number"):
        load_settings({}, {"REDIS_DB": "abc"})


def test_another_prefix_is_another_store() -> None:
    config = {"NOTES_TTL": 5, "CONVSTORE_TTL": 6, "OTHER": 1}
    assert load_settings(config, {"NOTES_PREFIX": "n:"}, "NOTES") == Settings(ttl=5, prefix="n:")


def test_an_unknown_name_in_the_environment_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Kubernetes writes CONVSTORE_PORT and the like beside a service of that name."""
    with caplog.at_level(logging.WARNING):
        assert load_settings({}, {"CONVSTORE_PORT": "tcp://10.0.0.1:80"}) == Settings()
    assert "CONVSTORE_PORT is no setting" in caplog.text


@pytest.mark.parametrize(
    "given",
    [
        "redis://:hunter2@host:x",
        "redis://:12/:hunter2@host:6379/0",
        "redis://:12#:hunter2@host:6379/0",
        "rediss:/:hunter2@host/0",
        "hunter2://host",
        5,
    ],
)
def test_no_secret_is_shown(given: Any) -> None:
    assert "hunter2" not in repr(Settings(url="redis://:hunter2@host"))
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"CONVSTORE_URL": given}, {})
    assert ":hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:pw@host:6379/1?password=pw", "redis://user:***@host:6379/1"),
        ("rediss://:pw@host", "rediss://:***@host"),
        ("redis://user@host/0", "redis://user@host/0"),
        ("unix:///tmp/s?password=pw", "unix:///tmp/s"),
        ("redis://host:x", "an unreadable URL"),
        ("redis://:12/secret@host", "redis://***"),
    ],
)
def test_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_every_setting_is_documented() -> None:
    for setting in dataclasses.fields(Settings):
        assert setting.metadata["document"].endswith("."), setting.name
