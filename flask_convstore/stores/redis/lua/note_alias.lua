--[[
note_alias: note in a session that an alias leads to it, or does not any more. Repeating it is harmless: no token.

KEYS[1..3]  session, history, tokens
ARGV[1..2]  as in touch.lua
ARGV[3]     alias       its owner and its name, as keys have them
ARGV[4]     leads_here  "1": it leads here from now on, "0": not any more

Returns  {"ok", nonce, version, created, updated, expires, lifetime, due}   as touch does
         {"missing", nonce}              no such session for this owner
         {"moved", nonce, session_id}    another owner's, who shares it. It goes on there
         {"forbidden", nonce}            another owner shares it
         {"corrupt", nonce, "session"}   the hash is not ours
Cost     O(1)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner = ARGV[1], ARGV[2]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "ttl", "d:complete", "indexed")
--#include _there.lua
if shared then
    return {"forbidden", nonce}
end
local own_ttl, complete, indexed = meta[5], meta[6], meta[7]
if ARGV[4] == "1" then
    redis.call("HSET", session, "a:" .. ARGV[3], 1)
else
    redis.call("HDEL", session, "a:" .. ARGV[3])
end
--#include _lifetime.lua
--#include _expire.lua
local changed_before = false
--#include _due.lua
return {"ok", nonce, version, created, updated, now + lifetime, lifetime, due}
