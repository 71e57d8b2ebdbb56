--[[
correct: correct the last changes that an owner's index tells of sessions, unless it has heard of others since.

KEYS[1]  changed   zset: session ids by their last change, milliseconds since 1970 (changed.lua)
ARGV[1]  nonce     echoed in the reply
ARGV[2..] member, score, at   three per session: its id, what the caller saw, and its last change

Returns  {"ok", nonce}
Cost     O(members * log(sessions of the owner))
]]
local changed = KEYS[1]
local nonce = ARGV[1]

for at = 2, #ARGV, 3 do
    local score = redis.call("ZSCORE", changed, ARGV[at])
    if score and tonumber(score) == tonumber(ARGV[at + 1]) then
        redis.call("ZADD", changed, ARGV[at + 2], ARGV[at])
    end
end
return {"ok", nonce}
