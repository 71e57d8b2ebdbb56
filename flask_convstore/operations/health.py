"""Health of a store."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..domain.results import Health
from ..errors import StoreError, StoreUnavailable
from ..stores.store import Store

_log = logging.getLogger("flask_convstore")


def health_of(store: Store, *, brief: bool = False, can_start: Callable[[], bool] = lambda: False) -> Health:
    """Ask the store how it is. A refusal is logged, not raised.

    Args:
        brief: Leave out server, version and role.
        can_start: Tells, while the store is away, if sessions can be started in the fallback.
    """
    try:
        latency_ms = round(store.ping(), 3)
        return Health(True, latency_ms, **({} if brief else store.about()._asdict()))
    except StoreUnavailable as error:
        is_usable = can_start()
        return Health(False, None, degraded=is_usable, can_start=is_usable, problem=error.reason)
    except StoreError as error:
        _log.error("health: %s", error)
        return Health(False, None, problem=str(error))
