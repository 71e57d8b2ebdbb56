--[[
count: add a portion of what a process has counted to the sums of all, once.

KEYS[1]  total     hash: sums since the first portion, since_ms, first_ms (creation of the first session that is counted)
KEYS[2]  portion   string: number of the last portion of this process
KEYS[3…] minutes   hashes: the sums of a minute each. The last one is the present minute
ARGV[1]  nonce     echoed in the reply
ARGV[2]  number    of the portion. One that is not above the last one adds nothing
ARGV[3]  kept      milliseconds that minutes and the number live from now
ARGV[4]  longest   milliseconds that the total lives from now
ARGV[5]  first     milliseconds since 1970: creation of the first session that it counts as started. "": of none
ARGV[6…] sums      for each key but the second: the number of sums, then name and number of each

Returns  {"ok", nonce, asks}          asks is 1 if nobody has asked yet how many sessions are alive in the present minute
         {"repeated", nonce, 0}       the portion has come before
Cost     O(sums)
]]
local total, portion = KEYS[1], KEYS[2]
local nonce, number, kept, longest, first = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])

if number <= tonumber(redis.call("GET", portion) or 0) then
    return {"repeated", nonce, 0}
end
local may = redis.acl_check_cmd or type -- fakeredis has none
local lacks = not may("HINCRBY", total, "started", 1) and "HINCRBY" or not may("HSET", total, "since_ms", 1) and "HSET"
    or not may("PEXPIRE", total, 1) and "PEXPIRE" or not may("HDEL", total, "base") and "HDEL"
--#include _rights.lua
redis.call("SET", portion, number, "PX", kept)
if redis.call("EXISTS", total) == 0 then
    local time = redis.call("TIME")
    redis.call("HSET", total, "since_ms", time[1] * 1000 + math.floor(time[2] / 1000))
end
if first and first < (tonumber(redis.call("HGET", total, "first_ms") or nil) or math.huge) then
    redis.call("HSET", total, "first_ms", ARGV[5])
    redis.call("HDEL", total, "base") -- it took these sessions for older ones, as another process had not told of them yet
end
local place = 6
for index = 1, #KEYS do
    if index ~= 2 then
        local key, count = KEYS[index], tonumber(ARGV[place])
        for sum = place + 1, place + 2 * count, 2 do
            redis.call("HINCRBY", key, ARGV[sum], ARGV[sum + 1])
        end
        place = place + 1 + 2 * count
    end
end
local present = KEYS[#KEYS]
local asks = redis.call("HINCRBY", present, "asked", 1) == 1 or redis.call("HEXISTS", total, "base") == 0
for index = 3, #KEYS do
    redis.call("PEXPIRE", KEYS[index], kept)
end
redis.call("PEXPIRE", total, longest)
return {"ok", nonce, asks and 1 or 0}
