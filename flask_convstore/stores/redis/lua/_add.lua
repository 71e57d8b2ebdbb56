-- _add: add ARGV[first_element..] to the history, drop the oldest, and write the session's numbers. Refuses a history
-- that was evicted or cut by others, which the length that RPUSH replies shows too. Needs the results of _fit.lua and
-- _shape.lua, the new version, history_changed (a message is written, or will be marked), removes (HDEL follows), marked
-- (the result of _marked.lua) and also (more fields of the session, and their values). Gives updated.
local may = redis.acl_check_cmd or type -- fakeredis has none
local lacks = removes and not may("HDEL", session, "turn") and "HDEL" or drop > 0 and not may("LTRIM", history, 0, -1) and "LTRIM"
    or (marked or #pinned > 0) and not may("LSET", history, 0, "") and "LSET"
    or (marked or usage_given ~= "") and not may("HINCRBY", session, "count", 1) and "HINCRBY"
    or version <= 2 and not may("PEXPIREAT", receipts, 1) and "PEXPIREAT" -- the key is new, and needs a lifetime
--#include _rights.lua
if added > 0 then
    -- The first write is one that a full server refuses. Then nothing is written.
    local length
    for from = first_element, #ARGV, 4000 do -- in parts: unpack fails at 8,000 elements
        length = redis.pcall("RPUSH", history, unpack(ARGV, from, math.min(from + 3999, #ARGV)))
        if type(length) == "table" then
            lacks = not may("RPUSH", history, "") and "RPUSH"
            --#include _rights.lua
            return length
        end
    end
    if length ~= count + added then
        redis.call("LTRIM", history, 0, -added - 1)
        return {"corrupt", nonce, "history"}
    end
elseif redis.call("LLEN", history) ~= count then
    return {"corrupt", nonce, "history"}
end
local updated = math.max(now, created) -- a session from elsewhere may have begun by a clock that is ahead
if drop == 0 and gaps ~= (meta[15] or "") then
    also[#also + 1], also[#also + 2], also[#also + 3], also[#also + 4] = "gaps", gaps, "first", first
end
local numbered = redis.pcall("HSET", session, "version", version, "updated", updated, "count", count + added - drop,
    "history_version", history_changed and version or history_version, "history_bytes", history_after, unpack(also))
if type(numbered) == "table" then
    if added > 0 then
        redis.call("LTRIM", history, 0, -added - 1)
    end
    lacks = not may("HSET", session, "version", version) and "HSET"
    --#include _rights.lua
    return numbered
end
if drop > 0 then
    --#include _trim.lua
    --#include _advance.lua
end
if drop > 0 or shape ~= meta[7] or data_after ~= data_bytes then
    redis.call("HSET", session, "first", first, "shape", shape, "data_bytes", data_after)
end
if drop > 0 and gaps ~= (meta[15] or "") then
    redis.call("HSET", session, "gaps", gaps, "first", first)
end
