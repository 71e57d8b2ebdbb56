"""Round trips to a server, counted for each thread. Whoever measures a call compares the counts before and behind it."""

from __future__ import annotations

import threading


class Trips(threading.local):
    """The number of round trips that this thread has made.

    Attributes:
        count: Requests that were sent, with or without an answer.
    """

    count = 0


TRIPS = Trips()
