--[[
put: make the given content all of a session, once. Create the session, or replace it.

KEYS[1..3]  session, history, tokens
ARGV[1..4]  as in _open.lua, then
ARGV[5]     mode         "replace" takes the place of a session that exists, "create" fails if one exists, "first" fails also
                         where there is a tombstone
ARGV[6]     shape        "full:<key>" data and history, "data" no history, "list" bare history, "value" one nameless field
ARGV[7]     own_ttl      milliseconds, kept with the session, "" as it is
ARGV[8]     started      milliseconds since 1970: the time of creation of a session that was started elsewhere, which ends
                         the session that it replaces, "" it starts now
ARGV[9]     title        as _facts.lua has it
ARGV[10]    usage        as _facts.lua has it
ARGV[11]    unchanged    milliseconds since 1970: a session that was written later is not replaced, "" any is
ARGV[12]    placed       "1": the owner has a place for the session, "0": it has none, and the session must exist
ARGV[13]    began        milliseconds since 1970: time of creation that an imported session shows, "" the true one
ARGV[14]    changed      milliseconds since 1970: last write and interaction of an imported session (at most now), "" it is none
ARGV[15]    first        seq of the first message of a session that is created
ARGV[16]    gaps         of the seqs of such a session, as _next_seq.lua has them
ARGV[17]    field_count  data fields that follow
ARGV[18..]  name, value  a pair per field: its JSON text
ARGV[..]    element      an opaque message each

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}
             first_seq: of the first message given, 0 for none. history_version: as it was before. due: see _due.lua
         {"repeated", nonce, receipt, created, now, expires}   this token is known. Only the lifetime moved
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"forbidden", nonce}                      another owner shares it, to be read only, or own_ttl, or it would end.
                                                   Nothing was written
         {"missing", nonce}                        the session is another owner's, or mode "first" finds a tombstone
         {"moved", nonce, session_id}              another owner's, who shares it. It goes on there
         {"new", nonce}                            it would create one, and has no place. Nothing was written
         {"exists", nonce}                         the session to create exists
         {"conflict", nonce, version, "version"}   it was written later than ARGV[11]. Nothing was written
         {"history_key", nonce, name}              a data field has the key of the history. Nothing was written
         {"too_large", nonce, what, limit, size}   of "history" (messages), "data", "session" (bytes). Nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole. Nothing was written
Cost     O(messages + fields given + fields and messages before)

A session that is not whole is replaced too. If its hash is not ours, it ends with that.
]]
--#include _sound.lua
local mode, started = ARGV[5], tonumber(ARGV[8])
local owners_only = ARGV[7] ~= "" or mode == "replace" and started
local lasting = true
--#include _open.lua
local event = "saved"
--#include _repeated.lua
local heir, ended = "", 0
local last_write = changed_before or 0
changed_before = false -- its entry is told before it
if ARGV[11] ~= "" and version and last_write > tonumber(ARGV[11]) then
    return {"conflict", nonce, version, "version"}
end
local is_ours = version and created and first and count and history_version and shape and history_bytes and data_bytes
    and created < 253402300799000 -- the end of all calendars
if exists and mode == "replace" and (started or not is_ours) then
    -- The session that is there ends here. It is removed with the first write.
    heir, ended = meta[2] or "", math.max(created or 0, last_write)
    ended = ended < 253402300799000 and ended or 0
    exists, outlived = false, true
end
if exists and mode ~= "replace" then
    return {"exists", nonce}
end
if mode == "first" and redis.call("HEXISTS", tokens, "owner") == 1 then
    return {"missing", nonce}
end
local is_whole, newest = true, false
if exists then
    is_whole = redis.call("LLEN", history) == count
    newest = redis.call("LINDEX", history, -1)
else
    --#include _new.lua
    first = tonumber(ARGV[15])
end
-- A conversation goes on in the one that takes its place if that has its newest message. Else it begins anew.
local begins_anew = exists and count > 0

local title_given, usage_given, own_ttl_given = ARGV[9], ARGV[10], ARGV[7]
local first_field, first_element = 18, 18 + 2 * ARGV[17]
local added, drop, reserved = #ARGV - first_element + 1, count, 0
local data_after, fields_set, removes = 0, first_element > first_field, exists
local fields_before = exists and redis.call("HKEYS", session) or {}
shape = ARGV[6]
--#include _key.lua
for at = first_field, first_element - 1, 2 do
    data_after = data_after + #ARGV[at] + #ARGV[at + 1]
    key_is_set = key_is_set or ARGV[at] == key
end
--#include _shape.lua
key_is_gone = true -- no field of the session before stays
--#include _key_is_free.lua
if newest and is_whole then
    local body = string.sub(newest, string.find(newest, "\n", 1, true) or 1)
    for at = first_element, #ARGV do
        begins_anew = begins_anew and string.sub(ARGV[at], -#body) ~= body
    end
end
--#include _next_seq.lua
local first_seq = added > 0 and next_seq or 0
if not exists then
    gaps = ARGV[16]
end
local updated = math.max(now, created)
--#include _fit.lua
if not exists and ARGV[12] == "0" then
    return {"new", nonce}
end

if exists and usage_given ~= "" then
    --#include _spent.lua
end
version = version + 1
local history_changed = true
if not is_whole then
    redis.call("UNLINK", history)
end
--#include _name.lua
--#include _save.lua
if exists then
    --#include _forget_streams.lua
    redis.call("HDEL", session, "moved_to", "title")
    if begins_anew then
        redis.call("HSET", session, "replaced", version)
        --#include _begin_anew.lua
    end
    title, complete = false, false
    for _, field in ipairs(fields_before) do
        if string.sub(field, 1, 2) == "d:" then
            redis.call("HDEL", session, field)
        end
    end
end
for at = first_field, first_element - 1, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    --#include _set_field.lua
end
--#include _facts.lua
--#include _own_ttl.lua
--#include _lifetime.lua
--#include _remember.lua
--#include _expire.lua
--#include _due.lua
if ARGV[14] ~= "" then
    local changed = math.min(tonumber(ARGV[14]), now)
    redis.call("HSET", session, "updated", changed, "indexed", changed)
    if ARGV[13] ~= "" then
        redis.call("HSET", session, "began", math.min(tonumber(ARGV[13]), changed))
    end
end
return {"ok", nonce, version, first_seq, created, updated, now + lifetime, history_version, due}
