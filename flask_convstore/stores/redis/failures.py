"""Table of Redis's failures. Each belongs to a kind, and each kind becomes an error of ours. A test causes each row.

| kind          | what it means                                                          | what follows                     |
| ------------- | ---------------------------------------------------------------------- | -------------------------------- |
| ambiguous     | no answer came: a write may have happened                              | repeated, with the same token    |
| refused       | the server did not do it, and perhaps will in a moment                 | repeated where a moment may help |
| misconfigured | it never will: password, permissions, a Cluster, no Redis at all       | loud, at once                    |
| local         | it never left this process                                             | repeated: one may be given back  |
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from redis import exceptions

from ...errors import ConvstoreError, CorruptValue, StoreMisconfigured, StoreUnavailable

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
    Failure("no password", None, "Authentication required", "misconfigured"),
    Failure("wrong password", exceptions.AuthenticationError, "", "misconfigured"),
    Failure("wrong password", exceptions.AuthenticationWrongNumberOfArgsError, "", "misconfigured"),
    Failure("no permission", exceptions.AuthorizationError, "", "misconfigured"),
    Failure("no permission", exceptions.NoPermissionError, "", "misconfigured"),
    Failure("no permission in a script", None, "The user executing the script", "misconfigured"),  # Redis's words
    Failure("no permission in a script", None, "ACL failure in script", "misconfigured"),  # Valkey's
    Failure("certificate refused", None, "CERTIFICATE_VERIFY_FAILED", "misconfigured"),
    Failure("our certificate refused", None, "_ALERT_CERTIFICATE_", "misconfigured"),
    Failure("our certificate refused", None, "_ALERT_BAD_CERTIFICATE", "misconfigured"),
    Failure("our certificate refused", None, "_ALERT_UNKNOWN_CA", "misconfigured"),
    Failure("our certificate refused", None, "_ALERT_HANDSHAKE_FAILURE", "misconfigured"),
    Failure("no TLS there", None, "WRONG_VERSION_NUMBER", "misconfigured"),
    Failure("a Cluster", exceptions.MovedError, "", "misconfigured"),
    Failure("a Cluster", None, "MOVED ", "misconfigured"),
    Failure("no Redis at all", exceptions.InvalidResponse, "", "misconfigured"),
    Failure("no Redis at all", None, "Protocol error", "misconfigured"),
    Failure("an old server", None, "unknown command", "misconfigured"),
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
    Failure("cluster down", exceptions.ClusterDownError, "", "refused", passes=True, is_down=True),
    Failure("try again", exceptions.TryAgainError, "", "refused", passes=True),
    Failure("nobody there", exceptions.ConnectionError, "connecting to", "refused", passes=True, is_down=True),
    Failure("nobody there", exceptions.TimeoutError, "connecting to", "refused", passes=True, is_down=True),
    Failure("slow way", exceptions.TimeoutError, "a long re", "ambiguous"),  # the server answers
    Failure("no answer", exceptions.TimeoutError, "", "ambiguous", passes=True, is_down=True),
    Failure("connection lost", exceptions.ConnectionError, "", "ambiguous", passes=True, is_down=True),
)
_UNKNOWN = Failure("an unknown error", None, "", "ambiguous")


def classify(error: Exception) -> Failure:
    """Find the row of the table that fits *error*."""
    text = _text(error)
    return next((failure for failure in FAILURES if failure.fits(error, text)), _UNKNOWN)


def as_ours(error: exceptions.RedisError, key: str, *, writes: bool) -> ConvstoreError:
    """Make an error of ours from *error*, of a call about *key*. *writes*: the call might have written."""
    text = _text(error)
    if "WRONGTYPE" in text:
        return CorruptValue(key, "it, or the key of its history or tokens, is of another type")
    failure = classify(error)
    if failure.kind == "misconfigured":
        what, cure = _MISCONFIGURED.get(failure.name, ("the server refuses us", _CURE))
        refused = StoreMisconfigured(f"{what} ({text}): {cure}")
        if writes and failure.name == "no permission in a script":
            refused.written = None  # the script may have written before the command that is not permitted
        return refused
    # A refusal comes before the first write of a script, and after the check of its token. So the write was never done.
    written = None if failure.kind == "ambiguous" and writes else False
    return StoreUnavailable(_reason(failure, error, text), written=written, is_down=failure.is_down)


def _reason(failure: Failure, error: exceptions.RedisError, text: str) -> str:
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
_MISCONFIGURED = {
    "a Cluster": ("this is one node of a Cluster", "name it as redis+cluster://, or rediss+cluster:// by TLS"),
    "no Redis at all": ("this is no Redis", _CURE),
    "an old server": ("the server lacks a command that is needed", _CURE),
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
    "a long re": "read fewer messages (last=), keep sessions smaller, or raise CONVSTORE_BUDGET",
    "EOF occurred": "does the server want a certificate of ours (?ssl_certfile=/path/client.pem&ssl_keyfile=…)?",
}


def _text(error: Exception) -> str:
    return str(error).rpartition("caused error: ")[2]  # without the command's arguments
