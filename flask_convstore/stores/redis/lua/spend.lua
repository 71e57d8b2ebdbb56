--[[
spend: take one of so many turns a minute that an owner may begin, from a bucket that fills all the time.

KEYS[1]  bucket  hash: left (turns), at (milliseconds since 1970)
ARGV[1]  nonce   echoed in the reply
ARGV[2]  most    turns a minute, and the size of the bucket

Returns  {"ok", nonce, wait}   milliseconds until one is there. 0: one was there, and is taken
Cost     O(1)
]]
local bucket = KEYS[1]
local nonce, most = ARGV[1], tonumber(ARGV[2])

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call("HMGET", bucket, "left", "at")
local left, at = tonumber(found[1]) or most, tonumber(found[2]) or now
left = math.min(most, left + math.max(0, now - at) * most / 60000)
if left < 1 then
    return {"ok", nonce, math.ceil((1 - left) * 60000 / most)}
end
local may = redis.acl_check_cmd or type -- fakeredis has none
local lacks = not found[2] and not may("PEXPIRE", bucket, 1) and "PEXPIRE"
--#include _rights.lua
redis.call("HSET", bucket, "left", string.format("%.6f", left - 1), "at", now)
redis.call("PEXPIRE", bucket, 60000)
return {"ok", nonce, 0}
