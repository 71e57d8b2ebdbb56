-- _cut: take out the messages from the place tail on. A turn whose own message goes is lost. Needs tail_seq and had_count.
if tail < had_count then
    local may = redis.acl_check_cmd or type -- fakeredis has none
    local lacks = not may("LTRIM", history, 0, -1) and "LTRIM" or not may("UNLINK", history) and "UNLINK"
        or not may("HDEL", session, "turn") and "HDEL" or added > 0 and not may("RPUSH", history, "") and "RPUSH"
    --#include _rights.lua
    -- The first write is one that a full server refuses. Then nothing is written.
    redis.call("HSET", session, "gaps", gaps, "first", first)
    redis.call("LTRIM", history, 0, tail - 1)
    if tail == 0 then
        redis.call("UNLINK", history)
    end
    --#include _unname.lua
    if tonumber(redis.call("HGET", session, "turn_seq") or 0) >= tail_seq then
        redis.call("HDEL", session, "turn", "turn_until", "turn_seq", "reply")
        reply_in_progress = false
    end
    --#include _forget_streams.lua
end
