--[[
update: change a session beside its messages, once: data fields, title, lifetime.

KEYS[1..3]  session, history, tokens
ARGV[1..4]  as in _open.lua, then
ARGV[5]     expected     the version it must have, or "<created>-<version>", "" any
ARGV[6]     own_ttl      milliseconds, kept with the session, "" as it is
ARGV[7]     title        as _facts.lua has it
ARGV[8..]   name, value  a pair per field: its JSON text, "" removes the field

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}   as append does, first_seq 0
         {"repeated", nonce, receipt, created, now, expires}   this token is known. Only the lifetime moved
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"forbidden", nonce}                      another owner shares it, to be read only, or own_ttl. Nothing was written
         {"missing", nonce}                        no such session for this owner
         {"moved", nonce, session_id}              another owner's, who shares it. It goes on there
         {"conflict", nonce, version, "version"}   not the expected version. Nothing was written
         {"history_key", nonce, name}              a data field has the key of the history. Nothing was written
         {"too_large", nonce, what, limit, size}   of "data", "session" (bytes). Nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole. Nothing was written
Cost     O(fields given)
]]
local owners_only = ARGV[6] ~= ""
local lasting = false
--#include _open.lua
local event = "data"
--#include _repeated.lua
local expected = ARGV[5]
if not exists then
    return {"missing", nonce}
end
--#include _ours.lua
--#include _expected.lua

local title_given, usage_given, own_ttl_given = ARGV[7], "", ARGV[6]
local first_field, last_field, first_element = 8, #ARGV, #ARGV + 1
local first_seq, added, drop, reserved = 0, 0, 0, 0
local data_after, fields_set, history_changed = data_bytes, false, false
local removes, marked = title_given == "-", false
--#include _key.lua
--#include _count_fields.lua
--#include _shape.lua
--#include _key_is_free.lua
--#include _fit.lua

version = version + 1
local also = {}
--#include _add.lua
for at = first_field, last_field, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    --#include _set_field.lua
end
--#include _facts.lua
--#include _own_ttl.lua
--#include _done.lua
