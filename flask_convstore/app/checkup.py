"""A check-up of an app: findings about its journal, its secret key, and its module globals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..domain.clock import now_ms
from ..errors import ConvstoreError
from ..operations.diagnosis import Finding
from ..outages.journal import Journal
from ..stores.private_folder import problem_of
from .module_globals import Replacement
from .state import AppState

_SHORT_KEY = 16


def of_app(state: AppState) -> Iterator[Finding]:
    """Give the findings about an app. Its server is asked nothing."""
    yield _secret_key(state)
    yield from _globals(state.convstore.replaced_globals())


def of_journal(state: AppState) -> Finding:
    """Look at the journal of this host."""
    journal, settings = state.journal, state.settings
    if journal is None:
        if settings.fallback == "journal" and state.client is not None:
            text = (
                "There is no journal: this system lacks file locks. While the server is away, nothing can be written."
            )
            return Finding("journal", "warning", text, "Run the app on Linux or macOS.")
        return Finding("journal", "ok", "The settings ask for none.")
    if journal.folder is None:
        return Finding("journal", "ok", "Writes wait in the memory of each process while the server is away.")
    try:
        return _folder(journal.folder) or _waiting(journal, journal.folder)
    except (OSError, ConvstoreError) as error:
        text = f"The journal in {journal.folder} cannot be used: {error}."
        return Finding("journal", "problem", text, "Let the user that runs the app own the folder.")


def _folder(folder: Path) -> Finding | None:
    """Judge the folder of the journal, or the one in which it will be made."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    reason = problem_of(folder) if there == folder else None
    if reason:
        return Finding("journal", "problem", f"The journal cannot be trusted: {reason}")
    if not os.access(there, os.W_OK | os.X_OK):
        text = f"This user cannot write into {there}, so that nothing can be kept while the server is away."
        return Finding(
            "journal", "problem", text, "Let the user that runs the app own the folder, or name another one."
        )
    return None


def _waiting(journal: Journal, folder: Path) -> Finding:
    status = journal.status()
    if status.problem:
        return Finding("journal", "problem", f"The journal in {folder} has a problem: {status.problem}.")
    if status.aside:
        writes = "1 write was" if status.aside == 1 else f"{status.aside} writes were"
        text = f"{writes} refused by the server for good, and put aside in {folder}."
        return Finding("journal", "problem", text, "Look at them with the command journal ls, then drop them.")
    if status.pending:
        age = max(0, now_ms() - (status.oldest_at_ms or 0)) / 1000
        writes = "1 write waits" if status.pending == 1 else f"{status.pending} writes wait"
        text = f"{writes} in {folder}, the oldest for {age:.0f} seconds."
        cure = "An app here hands them over once the server answers. Where none runs, use journal drain."
        return Finding("journal", "warning", text, cure)
    return Finding("journal", "ok", f"Nothing waits in {folder}.")


def _secret_key(state: AppState) -> Finding:
    key = state.app.config.get("SECRET_KEY")
    if not key and state.settings.anonymous_owner:
        text = "The app has no SECRET_KEY, and CONVSTORE_ANONYMOUS_OWNER signs a cookie with it."
        return Finding("secret key", "problem", text, "Set SECRET_KEY to a long random text, the same on every host.")
    if not key:
        return Finding("secret key", "ok", "There is none, and no cookie of ours needs one.")
    if len(key) < _SHORT_KEY:
        text = "The SECRET_KEY is short, and can be guessed."
        return Finding("secret key", "warning", text, "Make a longer one, such as secrets.token_hex() of Python.")
    return Finding("secret key", "ok", "The app has one.")


def _globals(replaced: list[Replacement]) -> Iterator[Finding]:
    if not replaced:
        yield Finding("globals", "ok", "No code replaces a mapping by a dict.")
    for found in replaced:
        text = f"{found.module}, line {found.line}, replaces the mapping {found.name} by another value, which is not stored."
        yield Finding("globals", "problem", text, f"Write {found.name}.clear(confirm=True) in place of the assignment.")
