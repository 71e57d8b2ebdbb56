--[[
messages: some messages of a session, behind or before one of them. Moves the lifetime.

KEYS[1..3]  session, history, tokens
ARGV[1..6]  as in touch.lua
ARGV[7]     before  messages with a smaller seq than this; "" the newest
ARGV[8]     limit   how many at most, the newest of them

Returns  {"ok", nonce, version, first_seq, oldest, expires, title, elements}   the seq of the first of them, and of the first
             there is; title: "" none
         {"missing", nonce}             no such session for this owner
         {"corrupt", nonce, "history"}  it does not hold as many messages as it should
Cost     O(limit + messages behind them)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner = ARGV[1], ARGV[2]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "first", "count", "ttl", "d:complete",
    "title")
local exists = meta[1]
if not exists or tonumber(meta[3]) + ARGV[5] <= now then
    return {"missing", nonce}
end
--#include _owner.lua
local created, oldest, count = tonumber(meta[3]), tonumber(meta[4]), tonumber(meta[5])
if redis.call("LLEN", history) ~= count then
    return {"corrupt", nonce, "history"}
end
local own_ttl, complete = meta[6], meta[7]
--#include _lifetime.lua
local moved = redis.pcall("PEXPIREAT", session, now + lifetime)
if type(moved) == "table" and moved.err then
    lifetime = redis.call("PTTL", session)
else
    --#include _expire.lua
end
local behind = math.max(0, math.min(count, (ARGV[7] == "" and oldest + count or tonumber(ARGV[7])) - oldest))
local from = math.max(0, behind - ARGV[8])
local elements = behind > from and redis.call("LRANGE", history, from, behind - 1) or {}
return {"ok", nonce, tonumber(meta[1]), oldest + from, oldest, now + lifetime, meta[8] or "", elements}
