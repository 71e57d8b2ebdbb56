-- _new: set the numbers of a session that is about to be created. Needs started (milliseconds since 1970, nil: now) and
-- ended (the end of the session that it replaces, 0: it replaces none). Gives version, first, count, created and the
-- like.
version, first, count, history_version, history_bytes, data_bytes = 0, 1, 0, 0, 0, 0
own_ttl, complete, title, gaps = false, false, false, ""
-- The ETag names the time of creation. So the successor of a deleted session starts a millisecond later at least.
ended = math.max(ended, tonumber(redis.call("HGET", tokens, "ended")) or 0)
created = math.max(started or now, ended + 1)
