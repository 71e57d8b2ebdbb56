"""Cost of each operation against hand-written code, as ratios within one run.

    python -m benchmarks.bench [--quick] [--report docs/performance.md] [--json FILE]

The exit status is 1 where a target is missed. The server is a Valkey without persistence on 127.0.0.1, reached by TCP.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import date
from pathlib import Path

import orjson
import redis

from tests.servers import Server, running

from .http_bench import http_results
from .library import BOT, USER, app_with_store, library_results
from .lists import list_results
from .measure import put, table
from .startup import startup
from .trips import counted, trips_table

SIZES = (10, 100, 1_000, 10_000)
_MEMORY_TARGET = 1.2


def memory(server: Server, size: int = 1_000) -> float:
    """Bytes in the server for each byte of JSON, tokens included."""
    client = server.client
    client.flushall()
    with app_with_store(server.url) as (_, store):
        store.save_session("s", {"history": []})
        for _ in range(size // 2):
            store.append("s", USER, BOT)
    used = sum(int(client.memory_usage(key, samples=0) or 0) for key in client.scan_iter("*{s}*"))
    return used / (size // 2 * (len(orjson.dumps(USER)) + len(orjson.dumps(BOT))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--report", type=Path, help="write the figures into this Markdown file, between its marks")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    given = parser.parse_args()
    quick = given.quick
    with running("valkey") as server:
        results = list(library_results(server, SIZES[:2] if quick else SIZES, 10 if quick else 40))
        results += list_results(server, (100, 10_000 if quick else 100_000), 10 if quick else 100)
        results += http_results(server, seconds=0.25 if quick else 4.0)
        trips = trips_table(counted(server))
        used = memory(server)
        started = startup(server.url, 3 if quick else 11)
        version = server.client.info("server").get("valkey_version")
    programs = f"Valkey {version}, Python {platform.python_version()}, redis-py {redis.__version__}"
    made = f"`make bench{' ARGS=--quick' if quick else ''}`, {date.today()}, {programs}, 2 shared cores:"
    is_small = used <= _MEMORY_TARGET
    bytes_used = (
        f"Memory in the server: {used:.2f} x the JSON of messages of 200 and 800 characters, tokens included "
        f"(target {_MEMORY_TARGET:.2f}{'' if is_small else ', **missed**'})."
    )
    text = "\n\n".join([made, table(results), trips, bytes_used, started])
    print(text)
    if given.json:
        given.json.write_text(json.dumps([found.as_dict() for found in results], indent=1))
    if given.report:
        put(given.report, "bench", text)
    return 0 if all(found.is_met for found in results) and is_small else 1


if __name__ == "__main__":
    sys.exit(main())
