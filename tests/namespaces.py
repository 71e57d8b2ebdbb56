"""Servers in a network of their own, which is cut off: no packet comes or goes, no connection is closed or refused.

It needs root, or CAP_NET_ADMIN and CAP_SYS_ADMIN, on Linux. Names hold this process's id. The addresses are private ones
that only the two ends of the link have.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

_numbers = itertools.count()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)


@dataclass
class Island:
    """A network of its own with one link to ours.

    Attributes:
        here: The link's address at our end.
        there: At the other.
    """

    name: str
    here: str
    there: str

    @property
    def within(self) -> tuple[str, ...]:
        """The command that runs another one there."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Nothing comes or goes any more."""
        self._in("link", "set", "end", "down")

    def lose_replies(self) -> None:
        """Let our packets arrive, but none come back."""
        self._in("route", "replace", "blackhole", f"{self.here}/32")

    def heal(self) -> None:
        self._in("link", "set", "end", "up")
        with contextlib.suppress(subprocess.CalledProcessError):
            self._in("route", "del", "blackhole", f"{self.here}/32")

    def _in(self, *arguments: str) -> None:
        _ip("-n", self.name, *arguments)


@contextlib.contextmanager
def island() -> Iterator[Island]:
    """For the length of a block. The servers in it are to be ended before."""
    number = next(_numbers) % 64
    first = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 256}."
    found = Island(f"cs-{os.getpid()}-{number}", f"{first}{number * 4 + 1}", f"{first}{number * 4 + 2}")
    link = f"cs{os.getpid()}n{number}"
    # It waits until this process closes the pipe, or is killed, and removes all.
    tidy = 'read _; ip netns pids "$0" | xargs -r kill -9; ip link del "$1"; ip netns del "$0"'
    guard = subprocess.Popen(
        ["sh", "-c", tidy, found.name, link], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _ip("netns", "add", found.name)
        _ip("link", "add", link, "type", "veth", "peer", "name", "end", "netns", found.name)
        _ip("address", "add", f"{found.here}/30", "dev", link)
        _ip("link", "set", link, "up")
        # A true silence: with the other end's address known, nobody asks who has it, and tells that nobody does.
        address = "02:00:00:00:00:01"
        _ip("neighbour", "replace", found.there, "lladdr", address, "dev", link, "nud", "permanent")
        found._in("link", "set", "end", "address", address)
        found._in("address", "add", f"{found.there}/30", "dev", "end")
        found._in("link", "set", "lo", "up")
        found.heal()
        yield found
    finally:
        guard.communicate(timeout=10)


@cache
def missing() -> str:
    """The reason why there can be no island here, or an empty text."""
    if shutil.which("ip") is None:
        return "needs Linux's program ip"
    name = f"cs-{os.getpid()}-try"
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        return f"needs the right to make network namespaces: {error.stderr.strip()}"
    try:
        _ip("-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other")
    except subprocess.CalledProcessError as error:
        return f"needs links between network namespaces: {error.stderr.strip()}"
    finally:
        _ip("netns", "del", name)
    return ""
