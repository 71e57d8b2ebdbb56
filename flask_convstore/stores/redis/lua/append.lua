--[[
append: add messages to the end of a session and set data fields, once.

KEYS[1..3]  session, history, tokens
ARGV[1..4]  as in _open.lua, then
ARGV[5]     created      milliseconds since 1970: time of creation of the session that is meant, "" any
ARGV[6]     expected     the version it must have, or "<created>-<version>", "" any
ARGV[7]     loaded       the version that the writer knows, "" any. See _late.lua
ARGV[8]     title        as _facts.lua has it
ARGV[9]     usage        as _facts.lua has it
ARGV[10]    replaces     the message that gives way, with all behind it: a seq, or "=<id>", "" none
ARGV[11]    field_count  data fields that follow
ARGV[12..]  name, value  a pair per field: its JSON text, "" removes the field
ARGV[..]    element      an opaque message each

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}
             first_seq: of the first message added, 0 for none. history_version: as it was before. due: see _due.lua.
             Behind these the number of messages that were left out by their ids, if any was
         {"repeated", nonce, receipt, created, now, expires}   this token is known. Only the lifetime moved
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"known", nonce, id}                      another message has this id. Nothing was written
         {"gone", nonce}                           there is no message to replace. Nothing was written
         {"forbidden", nonce}                      another owner shares it, and it may be read only. Nothing was written
         {"missing", nonce}                        no such session for this owner
         {"moved", nonce, session_id}              the conversation goes on there. Nothing was written
         {"conflict", nonce, version, "version"}   not the expected version. Nothing was written
         {"history_key", nonce, name}              a data field has the key of the history. Nothing was written
         {"too_large", nonce, what, limit, size}   of "history" (messages), "data", "session" (bytes). Nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole. Nothing was written
Cost     O(messages + fields added, and messages replaced), whatever the length of the history
]]
local owners_only = false
local lasting = false
--#include _open.lua
local event = "messages"
--#include _repeated.lua
local expected = ARGV[6]
if not exists or (ARGV[5] ~= "" and created ~= tonumber(ARGV[5])) then
    return {"missing", nonce}
end
--#include _ours.lua
local title_given, usage_given = ARGV[8], ARGV[9]
local first_field, last_field = 12, 11 + 2 * ARGV[11]
local first_element = last_field + 1
local all_known, target, tail, tail_seq, had_count = false, ARGV[10], count, 0, count
if target ~= "" then
    --#include _target.lua
    tail, tail_seq = target_place or count, target_seq
end
local has_fields = last_field > first_field
--#include _known.lua
if all_known then
    --#include _repeated.lua
end
local added = #ARGV - last_field
local loaded, adds = ARGV[7], added > 0
--#include _late.lua
if added > 0 then
    --#include _moved.lua
end
--#include _expected.lua

--#include _next_seq.lua
local first_seq = added > 0 and next_seq or 0
if target ~= "" then
    if tail == count then
        return {"gone", nonce}
    end
    --#include _tail.lua
end
local drop, reserved, data_after, fields_set = 0, 0, data_bytes, false
local removes, marked = false, false
--#include _key.lua
--#include _count_fields.lua
--#include _shape.lua
--#include _key_is_free.lua
--#include _fit.lua

version = version + 1
local history_changed = added > 0 or target ~= ""
--#include _name.lua
if target ~= "" then
    --#include _cut.lua
end
local also = {}
--#include _add.lua
for at = first_field, last_field, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    --#include _set_field.lua
end
--#include _facts.lua
--#include _done.lua
