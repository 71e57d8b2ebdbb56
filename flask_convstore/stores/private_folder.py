"""Folders for data of this user alone: made private, and refused where others could change what lies there."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def make_private(folder: Path) -> None:
    """Make *folder*, and each folder above it that is missing, for this user only, whatever the umask is."""
    for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def problem_of(folder: Path) -> str | None:
    """Tell why *folder* cannot be trusted with data, and what to do. None: it can.

    Raises:
        OSError: It cannot be looked at.
    """
    status = folder.stat()
    if status.st_uid != os.geteuid():
        return (
            f"{folder} belongs to the user with id {status.st_uid}, and this process runs as {os.geteuid()}. "
            "Run every process of the app as one user, or name a folder of this user."
        )
    if status.st_mode & 0o022:
        return f"others can write into {folder}, and could put files or a socket of theirs there. Run chmod go-w on it."
    return None


def file_problem_of(file: Path) -> str | None:
    """Tell why *file* cannot be trusted, and what to do. None: it can, or it is not there."""
    try:
        status = file.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return f"{file} is no file, but a link or the like. Remove it."
    if status.st_uid != os.geteuid() or status.st_mode & 0o002:  # a umask of 002 leaves a file to a group of one's own
        return f"others can write to {file}, or own it. Remove it."
    return None


def private_opener(path: str, flags: int) -> int:
    """Open a file for ``open()``. A new one is for this user only, whatever the umask is."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
