-- _save: write the numbers of a session, which may be new, then its messages. Needs the new version, drop (oldest
-- messages that go), added, first_element, updated, shape, history_after, data_after, history_changed, removes (HDEL
-- follows), and heir (owner of a new session that the server creates, "" nobody).
local may = redis.acl_check_cmd or type -- fakeredis has none
local lacks = added > 0 and not may("RPUSH", history, "") and "RPUSH" or not exists and not may("UNLINK", history) and "UNLINK"
    or version <= 2 and not may("PEXPIREAT", tokens, 0) and "PEXPIREAT" -- a key is new, and needs a lifetime
    or drop > 0 and not may("LTRIM", history, 0, -1) and "LTRIM" or removes and not may("HDEL", session, "turn") and "HDEL"
    or #pinned > 0 and not may("LSET", history, 0, "") and "LSET" or usage_given ~= "" and not may("HINCRBY", session, "count", 1) and "HINCRBY"
--#include _rights.lua
if outlived then
    reply_in_progress = false
    --#include _forget_streams.lua
    redis.call("UNLINK", session)
end
--#include _advance.lua
-- The first write is one that a full server refuses. Then nothing is written.
local numbered = redis.pcall("HSET", session, "version", version, "created", created, "updated", updated, "first", first,
    "count", count + added - drop, "history_version", history_changed and version or history_version, "shape", shape,
    "history_bytes", history_after, "data_bytes", data_after)
if type(numbered) == "table" then
    lacks = not may("HSET", session, "version", version) and "HSET"
    --#include _rights.lua
    return numbered
end
if gaps ~= (exists and meta[15] or "") then
    redis.call("HSET", session, "gaps", gaps)
end
if not exists then
    -- Messages that are left of an evicted session are not part of the new one.
    redis.call("UNLINK", history)
    local new_owner = owner == "*" and heir or owner
    if new_owner ~= "" then
        redis.call("HSET", session, "owner", new_owner)
    end
    local whose = redis.call("HMGET", tokens, "owner", "asker")
    if new_owner ~= (whose[1] or whose[2] or "") then
        redis.call("UNLINK", tokens, receipts)
    end
    redis.call("HSET", tokens, "owner", new_owner)
    indexed = now -- the owner's index was told before
    redis.call("HSET", session, "indexed", indexed)
end
for from = first_element, #ARGV, 4000 do -- in parts: unpack fails at 8,000 elements
    redis.call("RPUSH", history, unpack(ARGV, from, math.min(from + 3999, #ARGV)))
end
if drop > 0 then
    --#include _trim.lua
end
