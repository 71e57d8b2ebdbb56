--[[
append: add messages to the end of a session and set data fields, once.

KEYS[1..3]  session, history, tokens; ARGV[1..8] as in _begin.lua, then
ARGV[9]     expected_version  the version it must have, or ""
ARGV[10]    field_count       data fields that follow
ARGV[11..]  name, value       a pair per field: its JSON text; "" removes the field
ARGV[..]    element           an opaque message each

Returns  {"ok", nonce, version, first_seq, created, now, expires, moved}
             first_seq: of the first message added, 0 for none; moved: version at the history's last change before
         {"repeated", nonce, receipt, created, now, expires}   this token is known; only the lifetime moved
         {"missing", nonce}                        no such session for this owner
         {"conflict", nonce, version, "version"}   not the expected version; nothing was written
         {"corrupt", nonce, part}                  "session" or "history" is not whole; nothing was written
Cost     O(messages + fields added), whatever the length of the history
]]
--#include _begin.lua
if not exists then
    return {"missing", nonce}
end
--#include _intact.lua
if ARGV[9] ~= "" and version ~= tonumber(ARGV[9]) then
    return {"conflict", nonce, version, "version"}
end

local first_element = 11 + 2 * ARGV[10]
local added = #ARGV - first_element + 1
local first_seq = 0
version = version + 1
-- The first write is one that a full server refuses: then nothing is written.
if added > 0 then
    first_seq = first + count
    --#include _push.lua
    redis.call("HSET", session, "version", version, "updated", now, "count", count + added, "moved", version)
else
    redis.call("HSET", session, "version", version, "updated", now)
end
for at = 11, first_element - 1, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    --#include _set_field.lua
end
-- A session without a history gets one with its first message; a bare list becomes a dict with its first field.
if shape == "data" and added > 0 or shape == "list" and first_element > 11 then
    redis.call("HSET", session, "shape", "full")
end
--#include _remember.lua
--#include _lifetime.lua
return {"ok", nonce, version, first_seq, created, now, now + lifetime, moved}
