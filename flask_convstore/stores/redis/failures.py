"""Table of Redis's failures. Each belongs to a kind, and each kind becomes an error of ours. A test causes each row.

| kind          | what it means                                                          | what follows                     |
| ------------- | ---------------------------------------------------------------------- | -------------------------------- |
| ambiguous     | no answer came: a write may have happened                              | repeated, with the same token    |
| refused       | the server did not do it, and perhaps will in a moment                 | repeated where a moment may help |
| misconfigured | it never will: password, permissions, a database, no Redis at all      | loud, at once                    |
| local         | it never left this process                                             | repeated: one may be given back  |

An error reply to a new connection that fits no row is misconfigured, since a server that can serve takes connections. Any
other error that fits no row counts as an outage until it repeats itself, and as misconfigured from then on
(``outages.refusals``).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from redis import exceptions

from ...errors import ConvstoreError, CorruptValue, StoreMisconfigured, StoreUnavailable, TooSlow
from .connections import CutShort, is_at_connecting

Kind = Literal["ambiguous", "refused", "misconfigured", "local"]


class Failure(NamedTuple):
    """A row of the table: a class of redis-py's errors (None: any), a part of the server's text, and their meaning.

    Attributes:
        passes: It may pass in a moment, so that a retry makes sense.
        is_down: No server answers, or none that could serve anything.
    """

    name: str
    error: type[Exception] | None
    text: str
    kind: Kind
    passes: bool = False
    is_down: bool = False

    def fits(self, error: Exception, text: str) -> bool:
        return (self.error is None or isinstance(error, self.error)) and self.text in text


# The first row that fits counts. redis-py has classes for some of the server's errors, and cuts off their first word. There
# a wrong password, an exhausted pool and LOADING are ConnectionErrors. READONLY, OOM and CLUSTERDOWN are not.
FAILURES = (
    Failure("protected mode", None, "protected mode", "misconfigured"),
    Failure("no password", None, "Authentication required", "misconfigured"),
    Failure("wrong password", exceptions.AuthenticationError, "", "misconfigured"),
    Failure("wrong password", exceptions.AuthenticationWrongNumberOfArgsError, "", "misconfigured"),
    Failure("no permission", exceptions.AuthorizationError, "", "misconfigured"),
    Failure("no permission", exceptions.NoPermissionError, "", "misconfigured"),
    Failure("no permission", None, "because of: NOPERM", "misconfigured"),  # at the end of a transaction
    Failure("no permission in a script", None, "The user executing the script", "misconfigured"),  # Redis's words
    Failure("no permission in a script", None, "ACL failure in script", "misconfigured"),  # Valkey's
    Failure("no command in a script", None, "nknown Redis command called", "misconfigured"),
    Failure("no command in a script", None, "nknown command called", "misconfigured"),
    Failure("no command in a script", None, "not allowed from script", "misconfigured"),
    Failure("no such database", None, "DB index", "misconfigured"),
    Failure("no such database", None, "SELECT is not allowed", "misconfigured"),
    Failure("no such primary", exceptions.ResponseError, "no Sentinel knows", "misconfigured"),
    Failure("certificate refused", None, "CERTIFICATE_VERIFY_FAILED", "misconfigured"),
    Failure("our certificate refused", None, "_ALERT_CERTIFICATE_", "misconfigured"),
    Failure("our certificate refused", None, "_ALERT_BAD_CERTIFICATE", "misconfigured"),
    Failure("our certificate refused", None, "_ALERT_UNKNOWN_CA", "misconfigured"),
    Failure("our certificate refused", None, "_ALERT_HANDSHAKE_FAILURE", "misconfigured"),
    Failure("no TLS there", None, "WRONG_VERSION_NUMBER", "misconfigured"),
    Failure("a Cluster", exceptions.MovedError, "", "misconfigured"),
    Failure("a Cluster", None, "MOVED ", "misconfigured"),
    Failure("no Cluster", None, "cluster support disabled", "misconfigured"),
    Failure("no Redis at all", exceptions.InvalidResponse, "", "misconfigured"),
    Failure("no Redis at all", None, "Protocol error", "misconfigured"),
    Failure("no Redis at all", exceptions.ConnectionError, "Invalid Database", "misconfigured"),
    Failure("no Redis at all", exceptions.ConnectionError, "Invalid RESP version", "misconfigured"),
    Failure("an old server", exceptions.ResponseError, "nknown command", "misconfigured"),
    Failure("an old server", exceptions.ResponseError, "nknown subcommand", "misconfigured"),
    Failure("an old server", exceptions.ResponseError, "nsupported command", "misconfigured"),
    Failure("an old server", exceptions.ResponseError, "ommand is not", "misconfigured"),  # available, allowed …
    Failure("an old server", exceptions.ResponseError, "Invalid command passed", "misconfigured"),  # to ``rights``
    Failure("pool exhausted", exceptions.MaxConnectionsError, "", "local", passes=True),
    Failure("loading", exceptions.BusyLoadingError, "", "refused", passes=True, is_down=True),
    Failure("too many clients", None, "max number of clients", "refused", passes=True, is_down=True),
    Failure("out of memory", exceptions.OutOfMemoryError, "", "refused"),
    Failure("read only", exceptions.ReadOnlyError, "", "refused", passes=True),
    Failure("no primary", exceptions.MasterDownError, "", "refused", passes=True, is_down=True),
    Failure("no primary", None, "WAIT cannot be used with replica", "refused", passes=True, is_down=True),
    Failure("no replicas", None, "NOREPLICAS", "refused"),
    Failure("no replicas", None, "Not enough good replicas", "refused"),
    Failure("disk is failing", None, "MISCONF", "refused"),
    Failure("busy with a script", None, "BUSY", "refused", passes=True, is_down=True),
    Failure("nobody behind a proxy", exceptions.ResponseError, "upstream", "refused", passes=True, is_down=True),
    Failure(
        "nobody behind a proxy", exceptions.ResponseError, "Connection refused", "refused", passes=True, is_down=True
    ),
    Failure("cluster down", exceptions.ClusterDownError, "", "refused", passes=True, is_down=True),
    Failure("try again", exceptions.TryAgainError, "", "refused", passes=True),
    Failure("too slow", CutShort, "", "ambiguous"),
    Failure("nobody there", exceptions.ConnectionError, "connecting to", "refused", passes=True, is_down=True),
    Failure("nobody there", exceptions.TimeoutError, "connecting to", "refused", passes=True, is_down=True),
    Failure("no answer", exceptions.TimeoutError, "", "ambiguous", passes=True, is_down=True),
    Failure("connection lost", exceptions.ConnectionError, "", "ambiguous", passes=True, is_down=True),
)
_REFUSED = Failure("refused at once", None, "", "misconfigured")
_UNKNOWN = Failure("an unknown error", None, "", "ambiguous")


def classify(error: Exception) -> Failure:
    """Find the row of the table that fits *error*."""
    text = _text(error)
    found = next((failure for failure in FAILURES if failure.fits(error, text)), None)
    return found or (_REFUSED if is_at_connecting(error) else _UNKNOWN)


def as_ours(error: exceptions.RedisError, key: str, *, writes: bool) -> ConvstoreError:
    """Make an error of ours from *error*, of a call about *key*. *writes*: the call might have written."""
    text = _text(error)
    if "WRONGTYPE" in text:
        return CorruptValue(key, "it, or the key of its history or tokens, is of another type")
    failure = classify(error)
    if failure.kind == "misconfigured":
        what, cure = _MISCONFIGURED.get(failure.name, ("the server refuses us", _CURE))
        refused = StoreMisconfigured(f"{what} ({text}): {cure}")
        if writes and failure.name.endswith("in a script"):
            refused.written = None  # the script may have written before the command that was refused
        return refused
    # A refusal comes before the first write of a script, and after the check of its token. So the write was never done.
    written = None if failure.kind == "ambiguous" and writes else False
    kind = TooSlow if failure.name == "too slow" else StoreUnavailable
    ours = kind(_reason(failure, error, text), written=written, is_down=failure.is_down)
    ours.is_unexplained = failure is _UNKNOWN
    return ours


def _reason(failure: Failure, error: exceptions.RedisError, text: str) -> str:
    if failure.name == "too slow":
        return (
            "the time of the call was over in the midst of the server's answer, which is too large for it. Read less, as "
            "with last=, or raise CONVSTORE_BUDGET"
        )
    if failure.kind == "local":
        return f"all connections of this process are in use ({text})"
    if failure.name == "nobody there":
        advice = f" {_PLAIN}" if isinstance(error, exceptions.TimeoutError) else ""
        return f"cannot reach the server ({text}). Is it running, and is the URL right? (memory:// needs no server){advice}"
    if failure.kind == "refused":
        return f"the server refuses work for now ({text})"
    if failure is _UNKNOWN:
        return f"an unknown error ({text})"
    causes = "".join(f". If this happens every time: {cause}" for sign, cause in _EVERY_TIME.items() if sign in text)
    return f"no answer from the server ({text}){causes}"


_CURE = "check the password, the permissions and the address in the URL"
_ALLOW = "allow the commands in docs/security.md, or name a Redis 7, a Valkey 8 or newer in the URL"
_MISCONFIGURED = {
    "a Cluster": ("this is one node of a Cluster", "name it as redis+cluster://, or rediss+cluster:// by TLS"),
    "no Cluster": ("this is no node of a Cluster", "name it as redis://, or rediss:// by TLS"),
    "no Redis at all": ("this is no Redis", "check host and port in the URL"),
    "an old server": ("the server lacks a command that is needed", _ALLOW),
    "no command in a script": ("the server lacks a command that is needed", _ALLOW),
    "no such database": (
        "the server has no such database for us",
        "end the URL with a number that it has, redis://host:6379/0. A Cluster and some services have 0 only",
    ),
    "no such primary": (
        "the Sentinels watch no such primary",
        "write the name that they have for it behind their hosts, redis+sentinel://h1:26379/mymaster",
    ),
    "protected mode": (
        "the server takes connections of its own host only",
        "give it a password (requirepass), and name that in the URL",
    ),
    "refused at once": ("the server refuses a new connection", "check user, password, database and options in the URL"),
    "certificate refused": (
        "we do not trust the server's certificate",
        "name the file of its authority in the URL, ?ssl_ca_certs=/path/ca.pem, and a host that is in the certificate",
    ),
    "our certificate refused": (
        "the server wants another certificate of ours, or other TLS",
        "name one in the URL, ?ssl_certfile=/path/client.pem&ssl_keyfile=/path/client.key",
    ),
    "no TLS there": ("this port does not speak TLS", "write redis:// for rediss://, or name another port"),
}
_PLAIN = "does the port want TLS (rediss://), or not (redis://)?"
_EVERY_TIME = {
    "reset by peer": _PLAIN,
    "EOF occurred": "does the server want a certificate of ours (?ssl_certfile=/path/client.pem&ssl_keyfile=…)?",
}


def _text(error: Exception) -> str:
    return str(error).rpartition("caused error: ")[2]  # without the command's arguments
