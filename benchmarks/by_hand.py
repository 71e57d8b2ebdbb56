"""Hand-written code: the floor (one script, nothing promised), and the blob (a session in one text)."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import orjson
import redis

_APPEND = """
for i = 2, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
redis.call('HSET', KEYS[1], 'updated', ARGV[1])
redis.call('PEXPIRE', KEYS[1], 3600000)
redis.call('PEXPIRE', KEYS[2], 3600000)
return 1
"""


class Floor:
    """A hash and a list: one EVALSHA to append, a pipeline to read."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self._sha = client.script_load(_APPEND)

    def start(self, name: str, owner: str) -> None:
        """A new session, known to its owner."""
        pipe = self._client.pipeline(transaction=False)
        pipe.hset(f"f:{{{name}}}", mapping={"updated": "now", "owner": owner})
        pipe.pexpire(f"f:{{{name}}}", 3_600_000)
        pipe.zadd(f"f:owner:{owner}", {name: time.time()})
        pipe.pexpire(f"f:owner:{owner}", 3_600_000)
        pipe.execute()

    def owned(self, owner: str) -> list[Any]:
        """The owner's last 50 sessions: two round trips."""
        names = self._client.zrevrange(f"f:owner:{owner}", 0, 49)
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.hmget(f"f:{{{name.decode()}}}", "updated", "owner")
        found = zip(names, pipe.execute(), strict=True)
        return [{"session_id": name.decode(), "updated": updated.decode()} for name, (updated, _) in found]

    def drop(self, name: str) -> None:
        self._client.delete(f"f:{{{name}}}", f"f:{{{name}}}:h")

    def append(self, name: str, *messages: dict[str, Any]) -> None:
        texts = [orjson.dumps(message) for message in messages]
        self._client.evalsha(self._sha, 2, f"f:{{{name}}}", f"f:{{{name}}}:h", "now", *texts)

    def read(self, name: str, last: int = 0) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        pipe.hgetall(f"f:{{{name}}}")
        pipe.lrange(f"f:{{{name}}}:h", -last if last else 0, -1)
        _, texts = pipe.execute()
        return [orjson.loads(text) for text in texts]

    def turn(self, name: str, message: dict[str, Any], reply: dict[str, Any]) -> list[Any]:
        """Read the last 20, append the message and the reply: two round trips."""
        pipe = self._client.pipeline(transaction=False)
        pipe.evalsha(self._sha, 2, f"f:{{{name}}}", f"f:{{{name}}}:h", "now", orjson.dumps(message))
        pipe.lrange(f"f:{{{name}}}:h", -20, -1)
        _, texts = pipe.execute()
        history = [orjson.loads(text) for text in texts]
        self.append(name, reply)
        return history


class Blob:
    """GET, json, SETEX."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def start(self) -> str:
        name = uuid.uuid4().hex
        self._client.setex(f"b:{name}", 3600, json.dumps({"history": []}))
        return name

    def append(self, name: str, *messages: dict[str, Any]) -> None:
        session = self.read(name)
        session["history"] += messages
        self._client.setex(f"b:{name}", 3600, json.dumps(session))

    def read(self, name: str) -> Any:
        return json.loads(self._client.get(f"b:{name}"))
