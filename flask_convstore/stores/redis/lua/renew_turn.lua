--[[
renew_turn: keep a turn while its handler runs.

KEYS[1..3]  session, history, tokens
ARGV[1..2]  as in touch.lua
ARGV[3]     turn   the attempt that has the turn
ARGV[4]     lease  milliseconds the turn is ours from now, without being renewed

Returns  {"ok", nonce, version, created, updated, expires, lifetime}   milliseconds, since 1970 and from now
         {"missing", nonce}   no such session for this owner
         {"moved", nonce, session_id} another owner's, who shares it. It goes on there
         {"forbidden", nonce} another owner shares it, and it may be read only
         {"lost", nonce}      the turn has ended, or another one has taken over
         {"corrupt", nonce, "session"}   the hash is not ours
Cost     O(1)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner = ARGV[1], ARGV[2]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "ttl", "d:complete", "turn")
--#include _there.lua
local owners_only = false
--#include _write.lua
if meta[7] ~= ARGV[3] then
    return {"lost", nonce}
end
local own_ttl, complete = meta[5], meta[6]
redis.call("HSET", session, "turn_until", now + ARGV[4])
--#include _lifetime.lua
--#include _expire.lua
return {"ok", nonce, version, created, updated, now + lifetime, lifetime}
