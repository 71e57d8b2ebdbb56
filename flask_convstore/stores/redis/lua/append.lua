--[[
append: add messages to the end of a session and set data fields, once.

KEYS[1..3]  session, history, tokens; ARGV[1..13] as in _open.lua, then
ARGV[14]    created      milliseconds since 1970: the time of creation of the session that is meant; "" any
ARGV[15]    expected     the version it must have, or "<created>-<version>"; "" any
ARGV[16]    own_ttl      milliseconds, kept with the session; "" as it is
ARGV[17]    title        as _facts.lua has it
ARGV[18]    usage        as _facts.lua has it
ARGV[19]    field_count  data fields that follow
ARGV[20..]  name, value  a pair per field: its JSON text; "" removes the field
ARGV[..]    element      an opaque message each

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}
             first_seq: of the first message added, 0 for none; history_version: as it was before; due: see _due.lua
         {"repeated", nonce, receipt, created, now, expires}   this token is known; only the lifetime moved
         {"reused", nonce}                         this token came with another request; nothing was written
         {"forbidden", nonce}                      another owner shares it, to be read only, or own_ttl; nothing was written
         {"missing", nonce}                        no such session for this owner
         {"moved", nonce, session_id}              the conversation goes on there; nothing was written
         {"conflict", nonce, version, "version"}   not the expected version; nothing was written
         {"too_large", nonce, what, limit, size}   of "history" (messages), "data", "session" (bytes); nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole; nothing was written
Cost     O(messages + fields added), whatever the length of the history
]]
local owners_only = ARGV[16] ~= ""
--#include _open.lua
--#include _repeated.lua
local expected = ARGV[15]
if not exists or (ARGV[14] ~= "" and created ~= tonumber(ARGV[14])) then
    return {"missing", nonce}
end
--#include _ours.lua
local title_given, usage_given = ARGV[17], ARGV[18]
local first_element = 20 + 2 * ARGV[19]
local added = #ARGV - first_element + 1
if added > 0 then
    --#include _moved.lua
end
--#include _expected.lua

local first_seq = added > 0 and first + count or 0
local drop, data_after, fields_set = 0, data_bytes, false
for at = 20, first_element - 1, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    local stored = redis.call("HSTRLEN", session, "d:" .. name)
    data_after = data_after - (stored > 0 and #name + stored or 0) + (value ~= "" and #name + #value or 0)
    fields_set = fields_set or value ~= ""
end
local reserved = 0
--#include _fit.lua
--#include _shape.lua

version = version + 1
local history_changed = added > 0
--#include _add.lua
for at = 20, first_element - 1, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    --#include _set_field.lua
end
--#include _facts.lua
if ARGV[16] ~= "" then
    own_ttl, indexed = ARGV[16], false -- whoever lives as long as the session shall hear of it at once
    redis.call("HSET", session, "ttl", own_ttl)
end
--#include _lifetime.lua
--#include _remember.lua
--#include _expire.lua
--#include _due.lua
return {"ok", nonce, version, first_seq, created, updated, now + lifetime, history_version, due}
