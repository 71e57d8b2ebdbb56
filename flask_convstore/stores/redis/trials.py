"""Every command that sessions need of a server, each with a harmless call of it, so that the rights of a user can be tried.

The scripts' commands and those that Python sends stand here, and a test compares. A call touches nothing but scratch keys,
which live for a minute at most. An ``@`` in a call stands for the key of a scratch session.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from redis import exceptions


class Trial(NamedTuple):
    """A command with its arguments, and what is lost without it ("": sessions cannot be read or written)."""

    call: tuple[str, ...]
    loss: str = ""

    @property
    def name(self) -> str:
        """The name of the command."""
        return self.call[0]


_STREAMS = "streamed replies cannot be resumed, and events come late"
_WAITING = "turns that wait for another one look again and again"
_FIGURES = "figures() does not work"
_ABOUT = "doctor and health() know nothing of the server"

TRIALS: tuple[Trial, ...] = tuple(
    Trial(tuple(call.split(" ")), loss)
    for call, loss in {
        "PING": "",
        "ECHO 1": "",
        "TIME": "",
        "EVAL return(1) 1 @": "",
        "EVALSHA 0000000000000000000000000000000000000000 1 @": "",
        "WATCH @": "",
        "MULTI": "",
        "EXEC": "",
        "HSET @ owner 1 count 1": "",
        "PEXPIRE @ 60000": "",
        "PEXPIREAT @ 1": "",
        "HGET @ owner": "",
        "HMGET @ owner": "",
        "HGETALL @": "",
        "HKEYS @": "",
        "HEXISTS @ owner": "",
        "HSTRLEN @ owner": "",
        "HLEN @": "",
        "HINCRBY @:tokens count 1": "",
        "PEXPIRE @:tokens 60000": "",
        "HDEL @:tokens count": "",
        "RPUSH @:history 1": "",
        "PEXPIRE @:history 60000": "",
        "LPUSH @:history 1": "",
        "LSET @:history 0 1": "",
        "LLEN @:history": "",
        "LINDEX @:history 0": "",
        "LRANGE @:history 0 0": "",
        "LREM @:history 1 0": "",
        "LTRIM @:history 0 0": "",
        "EXISTS @": "",
        "TYPE @": "",
        "PTTL @": "",
        "SET @:gate 1 PX 60000": "",
        "GET @:gate": "",
        "DEL @:gate": "",
        "ZADD @:index 1 1": "",
        "PEXPIRE @:index 60000": "",
        "ZSCORE @:index 1": "",
        "ZCARD @:index": "",
        "ZRANGE @:index 0 0": "",
        "ZRANGEBYSCORE @:index 0 1": "",
        "ZREVRANGE @:index 0 0": "",
        "ZREVRANGEBYSCORE @:index 1 0": "",
        "ZRANDMEMBER @:index 1": "",
        "ZUNIONSTORE @:gate 1 @:index": "",
        "ZINTERSTORE @:gate 1 @:index": "",
        "PEXPIRE @:gate 60000": "",
        "ZREM @:index 1": "",
        "SCAN 0 MATCH @ COUNT 1": "",
        "DBSIZE": _FIGURES,
        "RANDOMKEY": _FIGURES,
        "UNLINK @ @:history @:tokens @:index @:gate": "",
        "XADD @:reply:1 1-1 e 1": _STREAMS,
        "PEXPIRE @:reply:1 60000": "",
        "XRANGE @:reply:1 - + COUNT 1": _STREAMS,
        "XREVRANGE @:reply:1 + - COUNT 1": _STREAMS,
        "UNLINK @:reply:1": "",
        "PUBLISH @:bell 1": _STREAMS,
        "BLPOP @:wake:1 0.001": _WAITING,
        "INFO server": _ABOUT,
        "SUBSCRIBE @:bell": _STREAMS,
        "UNSUBSCRIBE @:bell": _STREAMS,
    }.items()
)
"""In the order in which they are tried. The last ones end the use of a connection for anything else."""


def lacking(connection: Any, scratch: str) -> tuple[Trial, ...]:
    """Try each command on a connection of its own, and find those that are refused to this user or unknown to the server.

    Args:
        scratch: A session's key that nobody uses.
    """
    return tuple(dict.fromkeys(trial for trial in TRIALS if _is_refused(connection, trial, scratch)))


def _is_refused(connection: Any, trial: Trial, scratch: str) -> bool:
    try:
        connection.send_command(*(part.replace("@", scratch, 1) for part in trial.call))
        connection.read_response(disconnect_on_error=False)
    except exceptions.ResponseError as error:
        text = str(error).lower()
        return isinstance(error, exceptions.NoPermissionError) or "unknown command" in text or "noperm" in text
    return False
