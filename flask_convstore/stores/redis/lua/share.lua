--[[
share: give another owner a role in a session, or take it away. Repeating it is harmless: no token. The version counts it
if it changes anything, so that others who copy the session notice.

KEYS[1..3]  session, history, tokens
ARGV[1..2]  as in touch.lua
ARGV[3]     name   the other owner
ARGV[4]     role   "reader", "writer", "" none

Returns  {"ok", nonce, version, created, updated, expires, lifetime}   milliseconds, since 1970 and from now
         {"missing", nonce}     no such session for this owner
         {"moved", nonce, session_id} another owner's, who shares it. It goes on there
         {"forbidden", nonce}   another owner shares it
         {"corrupt", nonce, "session"}   the hash is not ours
Cost     O(1)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner = ARGV[1], ARGV[2]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "ttl", "d:complete")
--#include _there.lua
if shared then
    return {"forbidden", nonce}
end
local may = redis.acl_check_cmd or type -- fakeredis has none
local lacks = ARGV[4] == "" and not may("HDEL", session, "owner") and "HDEL"
--#include _rights.lua
local own_ttl, complete, guest = meta[5], meta[6], "s:" .. ARGV[3]
if ARGV[4] == "" then
    --#include _though_full.lua
end
if (redis.call("HGET", session, guest) or "") ~= ARGV[4] then
    version, updated = version + 1, math.max(now, created)
    redis.call("HSET", session, "version", version, "updated", updated)
end
if ARGV[4] == "" then
    redis.call("HDEL", session, guest)
else
    redis.call("HSET", session, guest, ARGV[4])
end
--#include _lifetime.lua
--#include _expire.lua
return {"ok", nonce, version, created, updated, now + lifetime, lifetime}
