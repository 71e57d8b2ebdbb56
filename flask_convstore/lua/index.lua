--[[
index: tell an owner's index of a session's activity. Called before a session is created, then once a minute. Before a session
is created it takes a place, if there may be so many only.

KEYS[1]  index     zset: session ids by their last activity, milliseconds since 1970
ARGV[1]  nonce     echoed in the reply
ARGV[2]  member    the session's id
ARGV[3]  lifetime  milliseconds the index lives from now, unless it lives longer
ARGV[4]  most      how many places there are; "0" any number
ARGV[5]  shown     how many members are shown where all places are taken

Returns  {"ok", nonce}
         {"full", nonce, member, score, ...}   all places are taken; the oldest members
Cost     O(log(sessions of the owner))
]]
local index = KEYS[1]
local nonce, member, lifetime = ARGV[1], ARGV[2], tonumber(ARGV[3])

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most = tonumber(ARGV[4])
if most > 0 and not redis.call("ZSCORE", index, member) then
    local taken = redis.call("ZCARD", index)
    if taken >= most then
        return {"full", nonce, unpack(redis.call("ZRANGE", index, 0, ARGV[5] - 1, "WITHSCORES"))}
    end
end
redis.call("ZADD", index, now, member)
if redis.call("PTTL", index) < lifetime then
    redis.call("PEXPIRE", index, lifetime)
end
return {"ok", nonce}
