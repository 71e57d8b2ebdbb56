--[[
take_reply: take the turn whose reply is streamed from its attempt, and read what the stream holds. That attempt can add
nothing any more. The new one ends the turn.

KEYS[1..3]  session, history, tokens
ARGV[1..2]  as in touch.lua
ARGV[3]     reply    id of the reply
ARGV[4]     attempt  the try that gets the turn. The same try repeated has it already
ARGV[5]     lease    milliseconds the turn is ours
ARGV[6]     ended    "1": only where the lease has ended, "0": in any case

Returns  {"ok", nonce, parts}         as reply_parts has them
         {"busy", nonce, milliseconds, 0}   the lease has not ended
         {"lost", nonce}              no turn with this reply is in progress
         {"missing", nonce}           no such session for this owner
         {"moved", nonce, session_id} another owner's, who shares it. It goes on there
         {"forbidden", nonce}         another owner shares it, and it may be read only
         {"corrupt", nonce, "session"}   the hash is not ours
Cost     O(parts)
]]
local session, nonce, owner = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "turn", "turn_until", "reply")
--#include _there.lua
local owners_only = false
--#include _write.lua
if not meta[5] or meta[7] ~= ARGV[3] then
    return {"lost", nonce}
end
local remaining = (tonumber(meta[6]) or now) - now
if ARGV[6] == "1" and remaining > 0 and meta[5] ~= ARGV[4] then
    return {"busy", nonce, remaining, 0}
end
local parts = redis.call("XRANGE", session .. ":reply:" .. ARGV[3], "-", "+")
redis.call("HSET", session, "turn", ARGV[4], "turn_until", now + ARGV[5])
return {"ok", nonce, parts}
