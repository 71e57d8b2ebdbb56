--[[
share: give another owner a role in a session, or take it away. Repeating it is harmless: no token. The version counts it
if it changes anything, so that others who copy the session notice.

KEYS[1..3]  session, history, tokens
ARGV[1..6]  as in touch.lua
ARGV[7]     name   the other owner
ARGV[8]     role   "reader", "writer", "" none

Returns  {"ok", nonce, version, created, updated, expires, lifetime}   milliseconds, since 1970 and from now
         {"missing", nonce}     no such session for this owner
         {"moved", nonce, session_id} another owner's, who shares it. It goes on there
         {"forbidden", nonce}   another owner shares it
         {"corrupt", nonce, "session"}   the hash is not ours
Cost     O(1)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner, max_age = ARGV[1], ARGV[2], ARGV[5]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "ttl", "d:complete")
--#include _there.lua
if shared then
    return {"forbidden", nonce}
end
local own_ttl, complete, guest = meta[5], meta[6], "s:" .. ARGV[7]
if ARGV[8] == "" then
    --#include _though_full.lua
end
if (redis.call("HGET", session, guest) or "") ~= ARGV[8] then
    version, updated = version + 1, math.max(now, created)
    redis.call("HSET", session, "version", version, "updated", updated)
end
if ARGV[8] == "" then
    redis.call("HDEL", session, guest)
else
    redis.call("HSET", session, guest, ARGV[8])
end
--#include _lifetime.lua
--#include _expire.lua
return {"ok", nonce, version, created, updated, now + lifetime, lifetime}
