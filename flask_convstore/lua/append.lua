--[[
append: add messages to the end of a session and set data fields, once.

KEYS[1..3]  session, history, tokens; ARGV[1..8] as in _begin.lua, then
ARGV[9]     created           milliseconds since 1970: the time of creation of the session that is meant; "" any
ARGV[10]    expected_version  the version it must have; "" any
ARGV[11]    field_count       data fields that follow
ARGV[12..]  name, value       a pair per field: its JSON text; "" removes the field
ARGV[..]    element           an opaque message each

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version}
             first_seq: of the first message added, 0 for none; history_version: as it was before
         {"repeated", nonce, receipt, created, now, expires}   this token is known; only the lifetime moved
         {"missing", nonce}                        no such session for this owner
         {"conflict", nonce, version, "version"}   not the expected version; nothing was written
         {"corrupt", nonce, part}                  "session" or "history" is not whole; nothing was written
Cost     O(messages + fields added), whatever the length of the history
]]
--#include _begin.lua
if not exists or (ARGV[9] ~= "" and created ~= tonumber(ARGV[9])) then
    return {"missing", nonce}
end
--#include _intact.lua
if ARGV[10] ~= "" and version ~= tonumber(ARGV[10]) then
    return {"conflict", nonce, version, "version"}
end

local first_element = 12 + 2 * ARGV[11]
local added = #ARGV - first_element + 1
local fields_set = first_element > 12
local first_seq = 0
version = version + 1
-- The first write is one that a full server refuses: then nothing is written.
if added > 0 then
    first_seq = first + count
    --#include _push.lua
    redis.call("HSET", session, "version", version, "updated", now, "count", count + added, "history_version", version)
else
    redis.call("HSET", session, "version", version, "updated", now)
end
for at = 12, first_element - 1, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    --#include _set_field.lua
end
if shape ~= "full" then
    --#include _shape.lua
    redis.call("HSET", session, "shape", shape)
end
--#include _remember.lua
--#include _lifetime.lua
--#include _expire.lua
return {"ok", nonce, version, first_seq, created, now, now + lifetime, history_version}
