--[[
index: tell an owner's index of a session's activity, before the session is created, then once a minute. Before the
creation it takes a place, where the number of places is limited.

KEYS[1]  index     zset: session ids by their last activity, milliseconds since 1970
KEYS[2]  changed   zset: session ids by their last change, milliseconds since 1970, where an owner has it (changed.lua)
ARGV[1]  nonce     echoed in the reply
ARGV[2]  member    the session's id
ARGV[3]  lifetime  milliseconds the index lives from now, unless it lives longer
ARGV[4]  most      number of places, "0" any number
ARGV[5]  shown     number of members that are shown where all places are taken
ARGV[6]  keeps     "1": a member that is there keeps its score, as for an import. "0": it gets a new one
ARGV[7]  at        milliseconds since 1970: the session's last change, "" it is about to be created

Returns  {"ok", nonce, taken}     the member's score if it was not there before, else 0
         {"full", nonce, surplus, member, score, ...}   all places are taken, so many must be given back. Oldest members
Cost     O(log(sessions of the owner))
]]
local index, changed = KEYS[1], KEYS[2]
local nonce, member, lifetime = ARGV[1], ARGV[2], tonumber(ARGV[3])

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most = tonumber(ARGV[4])
local is_there = redis.call("ZSCORE", index, member)
if most > 0 and not is_there then
    local taken = redis.call("ZCARD", index)
    if taken >= most then
        local oldest = redis.call("ZRANGE", index, 0, ARGV[5] - 1, "WITHSCORES")
        return {"full", nonce, taken - most + 1, unpack(oldest)}
    end
end
local left, may = redis.call("PTTL", index), redis.acl_check_cmd or type -- fakeredis has none
local lacks = left < 0 and (not may("PEXPIRE", index, 1) and "PEXPIRE" or not may("EXISTS", changed) and "EXISTS")
--#include _rights.lua
if not is_there or ARGV[6] ~= "1" then
    redis.call("ZADD", index, now, member)
end
if redis.call("EXISTS", changed) == 1 then
    redis.call("ZADD", changed, "GT", ARGV[7] == "" and now or ARGV[7], member)
end
if left < lifetime then
    redis.call("PEXPIRE", index, lifetime)
end
local channel = not string.find(index, "{!", 1, true) and redis.pcall("GET", index .. ":watched") -- sessions of nobody are in no list
if type(channel) == "string" then
    redis.pcall("PUBLISH", channel, "")
end
return {"ok", nonce, is_there and 0 or now}
