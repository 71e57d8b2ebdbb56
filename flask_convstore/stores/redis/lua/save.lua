--[[
save: create a session, replace it, or merge into it what its reader changed, once.

KEYS[1..3]  session, history, tokens; ARGV[1..13] as in _open.lua, then
ARGV[14]    mode         "replace" creates or replaces all; "create" only creates, "first" only where no tombstone is
                         either; "merge" writes the given changes into a session that exists, all or none; "upsert"
                         merges into one that exists, and creates one otherwise
ARGV[15]    created      milliseconds since 1970, merge only: the time of creation of the session that is meant; "" any
ARGV[16]    shape        "full" data and history, "data" no history, "list" bare history, "value" one nameless field;
                         "" as it is, and so it stays where an upsert merges
ARGV[17]    own_ttl      milliseconds, kept with the session; "" as it is
ARGV[18]    change       of the history: "keep", "extend", "rewrite", "remove"
ARGV[19]    bound        extend: messages below this seq are dropped; rewrite, remove (merge only): the history_version
                         that the writer knows
ARGV[20]    started      milliseconds since 1970: it started a session elsewhere, which has this time of creation here, and
                         ends the one that it replaces; "" no
ARGV[21]    title        as _facts.lua has it
ARGV[22]    usage        as _facts.lua has it
ARGV[23]    earlier      a token that an earlier try of this write had, which may arrive yet; "" none
ARGV[24]    placed       "1": the owner has a place for it; "0": only if it needs none, as the session exists
ARGV[25]    field_count  data fields that follow
ARGV[26..]  name, loaded, value   three per field: the JSON text that the writer had loaded ("" none; merge only) and
                         the new one ("" removes the field)
ARGV[..]    element      an opaque message each, for extend and rewrite

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}
             first_seq: of the first message given, 0 for none; history_version: as it was before; due: see _due.lua
         {"repeated", nonce, receipt, created, now, expires}   this token is known; only the lifetime moved
         {"reused", nonce}                         this token came with another request; nothing was written
         {"forbidden", nonce}                      another owner shares it, to be read only, or own_ttl, or it would end;
                                                   nothing was written
         {"missing", nonce}                        the session is another owner's, there is none to merge into, or there
                                                   was one before the first
         {"new", nonce}                            it would create one, and has no place; nothing was written
         {"exists", nonce}                         the session to create exists
         {"moved", nonce, session_id}              messages for a conversation that goes on there; nothing was written
         {"conflict", nonce, version, what}        "d:<field>" or "history" changed meanwhile; nothing was written
         {"too_large", nonce, what, limit, size}   of "history" (messages), "data", "session" (bytes); nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole; nothing was written
Cost     O(messages + fields given); a replace also O(fields and messages before)
]]
local owners_only = ARGV[17] ~= "" or ARGV[14] == "replace" and ARGV[20] ~= ""
--#include _open.lua
--#include _repeated.lua
local mode, change, bound, started = ARGV[14], ARGV[18], tonumber(ARGV[19]), tonumber(ARGV[20])
local title_given, usage_given = ARGV[21], ARGV[22]
local first_field, first_element = 26, 26 + 3 * ARGV[25]
local added = #ARGV - first_element + 1
local predecessor, ended = exists and mode == "replace" and started, 0
if predecessor then
    -- The one before ends here; it is removed with the first write.
    ended = math.max(created or 0, tonumber(redis.call("HGET", session, "updated")) or 0)
    exists, outlived = false, true
end
local merge, replace_all = mode == "merge" or mode == "upsert" and exists, mode == "replace" and exists

if merge and (not exists or (ARGV[15] ~= "" and created ~= tonumber(ARGV[15]))) then
    return {"missing", nonce}
end
if (mode == "create" or mode == "first") and exists then
    return {"exists", nonce}
end
if mode == "first" and known[1] then
    return {"missing", nonce}
end
if exists then
    --#include _intact.lua
    if merge and added > 0 then
        --#include _moved.lua
    end
else
    version, first, count, history_version, history_bytes, data_bytes = 0, 1, 0, 0, 0, 0
    own_ttl, complete, title = false, false, false
    -- The ETag names the time of creation: the successor of a deleted session starts a millisecond later at least.
    ended = math.max(ended, tonumber(redis.call("HGET", tokens, "ended")) or 0)
    created = math.max(started or now, ended + 1)
end
if merge and (change == "rewrite" or change == "remove") and history_version ~= bound then
    return {"conflict", nonce, version, "history"}
end
local data_after, fields_set = data_bytes, false
if merge then
    --#include _merge_fields.lua
else
    data_after = 0
    for at = first_field, first_element - 1, 3 do
        data_after = data_after + #ARGV[at] + #ARGV[at + 2]
    end
end

local updated = math.max(now, created)
local first_seq = added > 0 and first + count or 0
local drop = 0
if change == "extend" then
    drop = math.max(0, math.min(bound - first, count))
elseif change ~= "keep" then
    drop = count
end
local reserved = 0
--#include _fit.lua
if ARGV[16] ~= "" and not (mode == "upsert" and exists) then
    shape = ARGV[16]
end
--#include _shape.lua
if not exists and ARGV[24] == "0" then
    return {"new", nonce}
end

if outlived then
    redis.call("UNLINK", session)
end
-- The first write is one that a full server refuses: then nothing is written.
version = version + 1
redis.call("HSET", session, "version", version, "created", created, "updated", updated, "first", first + drop,
    "count", count + added - drop, "history_version", change == "keep" and history_version or version, "shape", shape,
    "history_bytes", history_after, "data_bytes", data_after)
if not exists then
    -- What is left of an evicted session is not part of the new one.
    redis.call("UNLINK", history)
    local new_owner = owner
    if owner == "*" then
        new_owner = predecessor and meta[2] or ""
    end
    if new_owner ~= "" then
        redis.call("HSET", session, "owner", new_owner)
    end
    if new_owner ~= (redis.call("HGET", tokens, "owner") or "") then
        redis.call("UNLINK", tokens)
        known = {}
    end
    redis.call("HSET", tokens, "owner", new_owner)
    indexed = now -- its creator has told the owner's index
    redis.call("HSET", session, "indexed", indexed)
end
for from = first_element, #ARGV, 4000 do -- in parts: unpack fails at 8,000 elements
    redis.call("RPUSH", history, unpack(ARGV, from, math.min(from + 3999, #ARGV)))
end
if drop > 0 then
    redis.call("LTRIM", history, drop, -1)
end
if replace_all then
    redis.call("HDEL", session, "moved_to", "title")
    title = false
    for _, field in ipairs(redis.call("HKEYS", session)) do
        if string.sub(field, 1, 2) == "d:" then
            redis.call("HDEL", session, field)
        end
    end
    complete = false
end
for at = first_field, first_element - 1, 3 do
    local name, value = ARGV[at], ARGV[at + 2]
    --#include _set_field.lua
end
--#include _facts.lua
if ARGV[17] ~= "" then
    own_ttl = ARGV[17]
    redis.call("HSET", session, "ttl", own_ttl)
    indexed = not exists and indexed -- whoever lives as long as the session shall hear of it at once
end
--#include _lifetime.lua
--#include _remember.lua
if ARGV[23] ~= "" then
    known[1], token = write, ARGV[23]
    --#include _remember.lua
end
--#include _expire.lua
--#include _due.lua
return {"ok", nonce, version, first_seq, created, updated, now + lifetime, history_version, due}
