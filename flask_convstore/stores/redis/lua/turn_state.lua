--[[
turn_state: tell who has the turn in progress, and for how long. A caller that waits for a turn asks this until it is free.

KEYS[1]  session  hash
ARGV[1]  nonce    echoed in the reply
ARGV[2]  owner    "*" the server asks, "" nobody asks, "=name" that owner asks

Returns  {"ok", nonce, remaining, attempt}   milliseconds, 0 or less if no turn is in progress. attempt: that has the turn, "" none
         {"missing", nonce}         no such session for this owner
         {"moved", nonce, session_id} another owner's, who shares it. It goes on there
         {"corrupt", nonce, "session"}   the hash is not ours
Cost     O(1)
]]
local session, nonce, owner = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "turn_until", "turn")
--#include _there.lua
return {"ok", nonce, (tonumber(meta[5]) or now) - now, meta[6] or ""}
