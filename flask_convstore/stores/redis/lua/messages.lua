--[[
messages: read some messages of a session, before or after one of them. Moves the lifetime.

KEYS[1..3]  session, history, tokens
ARGV[1..6]  as in touch.lua
ARGV[7]     before  messages with a smaller seq than this, "" the newest
ARGV[8]     limit   most messages, the newest of them
ARGV[9]     after   the oldest messages with a greater seq than this instead, "" not

Returns  {"ok", nonce, version, first_seq, oldest, expires, title, elements, created, next_seq}   the seq of the first of
             them, of the oldest there is, and of the next one that will be added. title: "" none
         {"missing", nonce}             no such session for this owner
         {"moved", nonce, session_id}   another owner's, who shares it. It goes on there
         {"corrupt", nonce, part}       "session": the hash is not ours. "history": it does not hold as many messages as it
                                        should
Cost     O(limit + messages between them and the nearer end of the history)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner, max_age = ARGV[1], ARGV[2], ARGV[5]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "first", "count", "ttl",
    "d:complete", "title")
--#include _there.lua
local oldest, count = tonumber(meta[5]), tonumber(meta[6])
if not (oldest and count) then
    return {"corrupt", nonce, "session"}
end
if redis.call("LLEN", history) ~= count then
    return {"corrupt", nonce, "history"}
end
local own_ttl, complete = meta[7], meta[8]
--#include _lifetime.lua
local moved = redis.pcall("PEXPIREAT", session, now + lifetime)
if type(moved) == "table" and moved.err then
    lifetime = redis.call("PTTL", session)
else
    --#include _expire.lua
end
local behind = math.max(0, math.min(count, (ARGV[7] == "" and oldest + count or tonumber(ARGV[7])) - oldest))
local from = math.max(0, behind - ARGV[8])
if ARGV[9] ~= "" then
    from = math.max(0, math.min(count, ARGV[9] + 1 - oldest))
    behind = math.min(count, from + ARGV[8])
end
local elements = behind > from and redis.call("LRANGE", history, from, behind - 1) or {}
return {"ok", nonce, version, oldest + from, oldest, now + lifetime, meta[9] or "", elements, created,
    oldest + count}
