--[[
watch_owned: let the writes of a session tell those who follow its owner's list. That is no interaction.

KEYS[1]  session  hash
ARGV[1]  nonce    echoed in the reply
ARGV[2]  watched  milliseconds for which they do

Returns  {"ok", nonce}
Cost     O(1)
]]
local session, nonce = KEYS[1], ARGV[1]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call("HEXISTS", session, "version") == 1 then
    redis.pcall("HSET", session, "owner_watched", now + ARGV[2])
end
return {"ok", nonce}
