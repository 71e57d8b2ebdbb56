--[[
index: tell an owner's index of a session's activity. Called before a session is created, then once a minute.

KEYS[1]  index     zset: session ids by their last activity, milliseconds since 1970
ARGV[1]  nonce     echoed in the reply
ARGV[2]  member    the session's id
ARGV[3]  lifetime  milliseconds the index lives from now, unless it lives longer

Returns  {"ok", nonce}
Cost     O(log(sessions of the owner))
]]
local index = KEYS[1]
local nonce, member, lifetime = ARGV[1], ARGV[2], tonumber(ARGV[3])

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call("ZADD", index, now, member)
if redis.call("PTTL", index) < lifetime then
    redis.call("PEXPIRE", index, lifetime)
end
return {"ok", nonce}
