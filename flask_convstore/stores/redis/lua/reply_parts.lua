--[[
reply_parts: read a reply's stream from a position on. That is no interaction.

KEYS[1]  session  hash
ARGV[1]  nonce    echoed in the reply
ARGV[2]  owner    "*" the server asks, "" nobody asks, "=name" that owner asks
ARGV[3]  reply    id of the reply, "" the one of the position, or else that of the turn in progress
ARGV[4]  after    "<number>-<epoch>": position of the newest part that is known, "" none
ARGV[5]  limit    most parts

Returns  {"ok", nonce, reply, remaining, restarts, parts}
             remaining: milliseconds that are left of the lease of its turn, at least 0, or -1 if that is not in progress.
             restarts: 1 if that position is not in the stream, and the parts are the first ones. Else 0.
             parts: of each its position, and its fields "e", its text, and "s", as _feed.lua has it
         {"missing", nonce}         no such session for this owner
         {"moved", nonce, session_id} another owner's, who shares it. It goes on there
         {"corrupt", nonce, "session"}   the hash is not ours
Cost     O(parts)
]]
local session, nonce, owner = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "turn", "turn_until", "reply", "streams")
--#include _there.lua
local in_progress = meta[5] and meta[7] or ""
local reply, after, remaining, restarts = ARGV[3], ARGV[4], -1, 0
if reply == "" and after ~= "" then
    for name in string.gmatch(meta[8] or "", "%S+") do
        if #redis.call("XRANGE", session .. ":reply:" .. name, after, after) > 0 then
            reply = name
        end
    end
end
if reply == "" then
    reply = in_progress
end
if reply == "" then
    return {"ok", nonce, "", -1, 0, {}}
end
if reply == in_progress then
    remaining = math.max(0, (tonumber(meta[6]) or now) - now)
end
if not string.find(" " .. (meta[8] or "") .. " ", " " .. reply .. " ", 1, true) then
    return {"ok", nonce, reply, remaining, after == "" and 0 or 1, {}} -- what is there is left from a session before
end
local stream, from = session .. ":reply:" .. reply, "-"
if after ~= "" then
    if #redis.call("XRANGE", stream, after, after) > 0 then
        from = "(" .. after
    else
        restarts = 1
    end
end
return {"ok", nonce, reply, remaining, restarts, redis.call("XRANGE", stream, from, "+", "COUNT", ARGV[5])}
