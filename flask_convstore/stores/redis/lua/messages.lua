--[[
messages: read some messages of a session, before one of them. Moves the lifetime.

KEYS[1..3]  session, history, tokens
ARGV[1..6]  as in touch.lua
ARGV[7]     before  messages with a smaller seq than this, "" the newest
ARGV[8]     limit   most messages, the newest of them

Returns  {"ok", nonce, version, from, oldest, expires, title, elements, count, gaps}   the place of the first of them, 0
             for the oldest there is, and the seq of that one. title: "" none
         {"missing", nonce}             no such session for this owner
         {"moved", nonce, session_id}   another owner's, who shares it. It goes on there
         {"corrupt", nonce, part}       "session": the hash is not ours. "history": it does not hold as many messages as it
                                        should
Cost     O(limit + messages behind them)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner, max_age = ARGV[1], ARGV[2], ARGV[5]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "first", "count", "ttl",
    "d:complete", "title", "gaps")
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
    --#include _expire_rest.lua
end
local gaps, behind = meta[10] or "", count
if ARGV[7] ~= "" then
    local before = tonumber(ARGV[7])
    behind = before - oldest
    for gap_from, gap_to in string.gmatch(gaps, "(%d+)%-(%d+)") do
        if tonumber(gap_from) < before then
            behind = behind - (math.min(gap_to, before - 1) - gap_from + 1)
        end
    end
    behind = math.max(0, math.min(count, behind))
end
local from = math.max(0, behind - ARGV[8])
local elements = behind > from and redis.call("LRANGE", history, from, behind - 1) or {}
return {"ok", nonce, version, from, oldest, now + lifetime, meta[9] or "", elements, count, gaps}
