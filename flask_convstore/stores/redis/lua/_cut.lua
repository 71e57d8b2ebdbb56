-- _cut: take out the messages from the place tail on. A turn whose own message goes is lost. Needs tail_seq and had_count.
if tail < had_count then
    -- The first write is one that a full server refuses. Then nothing is written.
    redis.call("HSET", session, "gaps", gaps, "first", first)
    redis.call("LTRIM", history, 0, tail - 1)
    if tail == 0 then
        redis.call("UNLINK", history)
    end
    if tonumber(redis.call("HGET", session, "turn_seq") or 0) >= tail_seq then
        redis.call("HDEL", session, "turn", "turn_until", "turn_seq")
    end
end
