-- _add: add ARGV[first_element..] to the history, drop the oldest, and write the session's numbers. Refuses a history
-- that was evicted or cut by others, which the length that RPUSH replies shows too. Needs the results of _fit.lua and
-- _shape.lua, the new version, and history_changed (a message is written, or will be marked). Gives updated.
if added > 0 then
    -- The first write is one that a full server refuses. Then nothing is written.
    local length
    for from = first_element, #ARGV, 4000 do -- in parts: unpack fails at 8,000 elements
        length = redis.call("RPUSH", history, unpack(ARGV, from, math.min(from + 3999, #ARGV)))
    end
    if length ~= count + added then
        redis.call("LTRIM", history, 0, -added - 1)
        return {"corrupt", nonce, "history"}
    end
    if drop > 0 then
        redis.call("LTRIM", history, drop, -1)
        --#include _advance.lua
    end
elseif redis.call("LLEN", history) ~= count then
    return {"corrupt", nonce, "history"}
end
local updated = math.max(now, created) -- a session from elsewhere may have begun by a clock that is ahead
redis.call("HSET", session, "version", version, "updated", updated, "count", count + added - drop,
    "history_version", history_changed and version or history_version, "history_bytes", history_after)
if drop > 0 or shape ~= meta[7] or data_after ~= data_bytes then
    redis.call("HSET", session, "first", first, "shape", shape, "data_bytes", data_after)
end
if gaps ~= (meta[15] or "") then
    redis.call("HSET", session, "gaps", gaps, "first", first)
end
