--[[
touch: move a session's lifetime. Every read begins with it.

KEYS[1..3]  session, history, tokens
KEYS[4]     gate   a key that no session has. A read watches the gate, and is called off where this owner sees no session.
                   Absent where the server itself reads, and where nothing is read
ARGV[1]     nonce          echoed in the reply
ARGV[2]     owner          "*" the server asks, "" nobody asks, "=name" that owner asks
ARGV[3]     created        milliseconds since 1970: time of creation of the session that is meant, "" any
ARGV[4]     new_ttl        milliseconds, kept with the session from now on, "" as it is
ARGV[5]     look           "1": this is no interaction, and all stays as it is

Returns  {"ok", nonce, version, created, updated, expires, lifetime, due}
             milliseconds, since 1970 and from now. due: see _due.lua
         {"missing", nonce}              no such session for this owner
         {"moved", nonce, session_id}    another owner's, who shares it. It goes on there
         {"forbidden", nonce}            new_ttl of a session that another owner shares
         {"corrupt", nonce, part}        "session": the hash is not ours. "history": it was evicted or cut. Nothing moves
Cost     O(1)

Where only writes are refused (a replica, a failing disk), a read still answers, with the lifetime as it is: hence pcall.
A touch that sets new_ttl fails there.
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner = ARGV[1], ARGV[2]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "ttl", "d:complete", "indexed",
    "count")
--#include _there.lua
if redis.call("LLEN", history) ~= tonumber(meta[8]) then
    return {"corrupt", nonce, tonumber(meta[8]) and "history" or "session"}
end
if shared and ARGV[4] ~= "" then
    return {"forbidden", nonce}
end
if ARGV[3] ~= "" and created ~= tonumber(ARGV[3]) then
    return {"missing", nonce} -- only a write asks for that
end
local own_ttl, complete, indexed = meta[5], meta[6], meta[7]
if ARGV[5] == "1" then
    local left = redis.call("PTTL", session)
    return {"ok", nonce, version, created, updated, now + left, left, {}}
end
if ARGV[4] ~= "" then
    own_ttl, indexed = ARGV[4], false -- the index and the aliases hear of it at once
    redis.call("HSET", session, "ttl", own_ttl)
end
--#include _lifetime.lua
local moved = redis.pcall("PEXPIREAT", session, now + lifetime)
if type(moved) == "table" and moved.err then
    lifetime = redis.call("PTTL", session)
    return {"ok", nonce, version, created, updated, now + lifetime, lifetime, {}}
end
--#include _expire_rest.lua
local changed_before, lasting = false, false
--#include _told.lua
return {"ok", nonce, version, created, updated, now + lifetime, lifetime, due}
