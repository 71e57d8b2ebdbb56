--[[
unindex: take sessions that are gone out of an owner's index, unless they have been active since.

KEYS[1]  index          zset: session ids by their last activity, milliseconds since 1970
KEYS[2]  changed        zset: session ids by their last change, where an owner has it (changed.lua)
ARGV[1]  nonce          echoed in the reply
ARGV[2]  grace          milliseconds: a younger entry stays, since its session may be about to be created
ARGV[3..] member, score two per session: its id, and the activity that the caller saw

Returns  {"ok", nonce}
Cost     O(members * log(sessions of the owner))
]]
local index, changed = KEYS[1], KEYS[2]
local nonce, grace = ARGV[1], tonumber(ARGV[2])

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at = 3, #ARGV, 2 do
    local score = tonumber(redis.call("ZSCORE", index, ARGV[at]) or 0)
    if score <= tonumber(ARGV[at + 1]) and score + grace <= now then
        redis.call("ZREM", index, ARGV[at])
        redis.call("ZREM", changed, ARGV[at])
    end
end
return {"ok", nonce}
