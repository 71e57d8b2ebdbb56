"""The primary that Redis Sentinels name, over redis-py's client."""

from __future__ import annotations

from typing import Any

import redis
from redis import exceptions
from redis.connection import SSLConnection
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection

from .connections import with_deadline


def client_by_sentinels(
    nodes: list[tuple[str, int]], name: str, options: dict[str, Any], *, is_secure: bool
) -> redis.Redis:
    """Make a client of the primary that the Sentinels at *nodes* call *name*. It connects when it is first used.

    Args:
        options: Options of the connections to the primary. ``sentinel_username`` and ``sentinel_password`` are for the
            Sentinels.
        is_secure: Both are reached by TLS.
    """
    asking = {key: options[key] for key in ("socket_connect_timeout", "socket_timeout", "retry")}
    asking |= {key: value for key, value in options.items() if key.startswith("ssl_")}
    asking |= {key: options.pop(f"sentinel_{key}", None) for key in ("username", "password")}
    sentinel = _Sentinels(nodes, sentinel_kwargs={**asking, "ssl": is_secure})  # type: ignore[no-untyped-call]
    for watcher in sentinel.sentinels:
        with_deadline(watcher)
    options.update(connection_class=_TlsConnection if is_secure else _Connection)
    client: redis.Redis = sentinel.master_for(name, **options)  # type: ignore[no-untyped-call]
    return client


class _Connection(SentinelManagedConnection):
    """A connection to a primary, which is never used again after a read that was interrupted.

    The next caller would get the reply that was not read. The server is asked whether it is a primary, since a Sentinel that
    has not heard of the last fail-over names a server that is a replica by now, and perhaps empty.
    """

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health=check_health)
        self.send_command("ROLE")  # type: ignore[no-untyped-call]
        if self.read_response()[0] not in (b"master", "master"):
            raise exceptions.MasterDownError("the server that the Sentinels name is no primary")

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)
        except exceptions.ResponseError:
            raise
        except BaseException:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise


class _TlsConnection(_Connection, SSLConnection):
    """A connection by TLS."""


class _Sentinels(Sentinel):
    """Sentinels that tell the reason when none of them names a primary.

    redis-py shows all their options instead, passwords among them.
    """

    def discover_master(self, service_name: str) -> tuple[str, int]:
        reasons: list[str] = []
        refusal: exceptions.AuthenticationError | None = None
        for number, sentinel in enumerate(self.sentinels):
            try:
                known: Any = sentinel.sentinel_masters()
            except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
                reasons.append(str(error))
                if isinstance(error, exceptions.AuthenticationError):
                    refusal = error
                continue
            except (AttributeError, TypeError, IndexError) as error:
                raise exceptions.InvalidResponse(f"what answers here is no Sentinel ({error})") from error
            state = known.get(service_name)
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                # The one that answers is asked first the next time.
                self.sentinels[0], self.sentinels[number] = sentinel, self.sentinels[0]
                return state["ip"], state["port"]
            reasons.append("down" if state else "unknown")
        if refusal:  # that is no outage
            advice = "their password goes into the URL as ?sentinel_password=…"
            raise exceptions.AuthenticationError(f"a Sentinel refuses us ({refusal}): {advice}") from refusal
        if set(reasons) == {"unknown"}:  # nor is this
            raise exceptions.ResponseError(f"no Sentinel knows {service_name!r}")
        raise MasterNotFoundError(f"Error connecting to the primary {service_name!r}: {', '.join(reasons)}")
