-- _messages: begin a read of messages: look at the session, refuse one that is not whole, move its lifetime. Gives version,
-- first, count, gaps, title, created, now and lifetime. Where only writes are refused, the lifetime stays as it is.
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "first", "count", "ttl",
    "d:complete", "title", "gaps")
--#include _there.lua
local first, count, gaps, title = tonumber(meta[5]), tonumber(meta[6]), meta[10] or "", meta[9] or ""
if not (first and count) then
    return {"corrupt", nonce, "session"}
end
if redis.call("LLEN", history) ~= count then
    return {"corrupt", nonce, "history"}
end
local own_ttl, complete = meta[7], meta[8]
--#include _lifetime.lua
local moved = redis.pcall("PEXPIREAT", session, now + lifetime)
if type(moved) == "table" and moved.err then
    lifetime = redis.call("PTTL", session)
else
    --#include _expire_rest.lua
    --#include _expire_tokens.lua
end
