--[[
merge: write changes into a session, all or none, once, beside what others have written. Where there is no session, the
changes may make a new one.

KEYS[1..3]  session, history, tokens
ARGV[1..4]  as in _open.lua, then
ARGV[5]     created      milliseconds since 1970: time of creation of the session that is meant, "" any
ARGV[6]     shape        as in put.lua, "" as it is
ARGV[7]     own_ttl      milliseconds, kept with the session, "" as it is
ARGV[8]     change       of the history: "keep", "extend" (drop the oldest messages, add some), "take" (extend, where the
                         oldest message is the one that the writer knows), "rewrite" (replace all), "reset" (replace all,
                         and begin anew)
ARGV[9]     bound        extend: messages below this seq are dropped. take: the seq of the oldest message, "-", and the
                         bound of extend. rewrite, reset: the history_version that the writer knows
ARGV[10]    title        as _facts.lua has it
ARGV[11]    usage        as _facts.lua has it
ARGV[12]    creates      "" creates no session. "1" creates one where there is none, and the owner has a place for it. "0"
                         would create one, but there is no place. Unless "", a session that exists keeps its shape
ARGV[13]    loaded       the version that the writer knows, "" any. See _late.lua
ARGV[14]    history_key  of a session that tells no other, "" that of the settings
ARGV[15]    field_count  data fields that follow
ARGV[16..]  name, loaded, value   three per field: the JSON text that the writer had loaded ("" none, "*" any) and the new
                         one ("" removes the field)
ARGV[..]    element      an opaque message each, for extend and rewrite

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}   as put does, and
             the number of messages that were left out by their ids, if any was
         {"repeated", nonce, receipt, created, now, expires}   this token is known. Only the lifetime moved
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"known", nonce, id}                      another message has this id. Nothing was written
         {"forbidden", nonce}                      another owner shares it, to be read only, or own_ttl. Nothing was written
         {"missing", nonce}                        the session is another owner's, or there is none to merge into
         {"new", nonce}                            it would create one, and has no place. Nothing was written
         {"moved", nonce, session_id}              messages for a conversation that goes on there. Nothing was written
         {"conflict", nonce, version, what}        "d:<field>" or "history" changed meanwhile. Nothing was written
         {"history_key", nonce, name}              a data field has the key of the history. Nothing was written
         {"too_large", nonce, what, limit, size}   of "history" (messages), "data", "session" (bytes). Nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole. Nothing was written
Cost     O(messages + fields given + messages dropped)
]]
local owners_only = ARGV[7] ~= ""
local lasting = ARGV[12] ~= ""
--#include _open.lua
local event = "saved"
--#include _repeated.lua
local change, bound, creates = ARGV[8], tonumber(ARGV[9]), ARGV[12]
local oldest, taken_below = string.match(ARGV[9], "^(%d+)%-(%d+)$")
local title_given, usage_given, own_ttl_given = ARGV[10], ARGV[11], ARGV[7]
local first_field, first_element = 16, 16 + 3 * ARGV[15]
local added = #ARGV - first_element + 1
local heir, started, ended = "", nil, 0
if creates ~= "" then
    changed_before = false -- its entry is told before it
end
if exists and ARGV[5] ~= "" and created ~= tonumber(ARGV[5]) or not exists and creates == "" then
    return {"missing", nonce}
end
local all_known = false
if exists and creates ~= "" and change == "extend" then
    --#include _ours.lua
    local tail, has_fields = count, first_element > first_field
    --#include _known.lua
    if all_known then
        --#include _repeated.lua
    end
    added = #ARGV - first_element + 1
end
if exists then
    if change ~= "reset" then
        local loaded, adds = ARGV[13], added > 0 or change == "rewrite"
        --#include _late.lua
    end
    --#include _intact.lua
    if added > 0 then
        --#include _moved.lua
    end
    if (change == "extend" or change == "take") and creates == "" then
        --#include _unknown.lua
    end
    if (change == "rewrite" or change == "reset") and history_version ~= bound then
        return {"conflict", nonce, version, "history"}
    end
    if change == "take" and first ~= tonumber(oldest) then
        return {"conflict", nonce, version, "history"}
    end
    local drops = change == "take" or change == "extend" and bound > 0
    if drops and ARGV[13] ~= "" and tonumber(ARGV[13]) < tonumber(redis.call("HGET", session, "rewritten") or 0) then
        return {"conflict", nonce, version, "history"}
    end
else
    --#include _new.lua
end
if ARGV[6] ~= "" and not (exists and creates ~= "") then
    shape = ARGV[6]
end
local data_after, fields_set, removes, alike_collides = data_bytes, false, change == "reset", true
local HISTORY_KEY = ARGV[14] ~= "" and ARGV[14] or HISTORY_KEY
--#include _key.lua
--#include _merge_fields.lua
--#include _shape.lua
--#include _key_is_free.lua

--#include _next_seq.lua
local first_seq = added > 0 and next_seq or 0
local updated = math.max(now, created)
local drop, reserved = 0, 0
if change == "rewrite" or change == "reset" then
    drop = count
elseif change == "extend" or change == "take" then
    bound = bound or tonumber(taken_below)
    --#include _below.lua
    drop = below
end
--#include _fit.lua
if not exists and creates == "0" then
    return {"new", nonce}
end

version = version + 1
local history_changed = change ~= "keep" or not exists
--#include _name.lua
--#include _save.lua
if exists and count > 0 and (change == "rewrite" or change == "reset") then
    redis.call("HSET", session, "rewritten", version)
    --#include _forget_streams.lua
end
if exists and count > 0 and change == "reset" then
    --#include _begin_anew.lua
end
for at = first_field, first_element - 1, 3 do
    local name, value = ARGV[at], ARGV[at + 2]
    --#include _set_field.lua
end
--#include _facts.lua
--#include _own_ttl.lua
--#include _done.lua
