--[[
session_events: tell what has happened to a session since a version, and let its writes keep a log from now on. That is no
interaction.

KEYS[1]  session  hash
ARGV[1]  nonce    echoed in the reply
ARGV[2]  owner    "*" the server asks, "" nobody asks, "=name" that owner asks
ARGV[3]  created  milliseconds since 1970: time of creation of the session that is known, "" none is
ARGV[4]  known    its version that is known
ARGV[5]  watched  milliseconds for which its writes keep a log

Returns  {"ok", nonce, version, created, updated, count, is_whole, events}
             is_whole: 1 if events has all since that version, else 0. events: of each its version and the fields "e", its
             kind, and "s", the first seq of its messages
         {"missing", nonce}         no such session for this owner
         {"moved", nonce, session_id} another owner's, who shares it. It goes on there
         {"corrupt", nonce, "session"}   the hash is not ours
Cost     O(events)
]]
local session, nonce, owner = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "watched", "count")
--#include _there.lua
if not meta[5] then
    redis.pcall("UNLINK", session .. ":events") -- the log of a session before
end
if now + ARGV[5] / 2 > (tonumber(meta[5]) or 0) then
    redis.pcall("HSET", session, "watched", now + ARGV[5])
end
local events, is_whole = {}, 0
if ARGV[3] ~= "" and created == tonumber(ARGV[3]) then
    events = redis.call("XRANGE", session .. ":events", string.format("%d-2", ARGV[4]), "+")
    is_whole = #events == version - ARGV[4] and 1 or 0
end
return {"ok", nonce, version, created, updated, tonumber(meta[6]) or 0, is_whole, events}
