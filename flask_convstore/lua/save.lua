--[[
save: create a session, replace it, or merge into it what its reader changed, once.

KEYS[1..3]  session, history, tokens; ARGV[1..8] as in _begin.lua, then
ARGV[9]     mode         "replace" creates or replaces all; "create" only creates; "merge" writes the given changes into a
                         session that exists, all or none
ARGV[10]    created      milliseconds since 1970, merge only: the time of creation of the session that is meant; "" any
ARGV[11]    shape        "full" data and history, "data" no history, "list" bare history; "" as it is
ARGV[12]    own_ttl      milliseconds, kept with the session; "" as it is
ARGV[13]    change       of the history: "keep", "extend", "rewrite", "remove"
ARGV[14]    bound        extend: messages below this seq are dropped; rewrite, remove (merge only): the history_version
                         that the writer knows
ARGV[15]    field_count  data fields that follow
ARGV[16..]  name, loaded, value   three per field: the JSON text that the writer had loaded ("" none; merge only) and
                         the new one ("" removes the field)
ARGV[..]    element      an opaque message each, for extend and rewrite

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version}
             first_seq: of the first message given, 0 for none; history_version: as it was before
         {"repeated", nonce, receipt, created, now, expires}   this token is known; only the lifetime moved
         {"missing", nonce}                   the session is another owner's, or there is none to merge into
         {"exists", nonce}                    the session to create exists
         {"conflict", nonce, version, what}   "d:<field>" or "history" changed meanwhile; nothing was written
         {"corrupt", nonce, part}             "session" or "history" is not whole; nothing was written
Cost     O(messages + fields given); a replace also O(fields and messages before)
]]
--#include _begin.lua
local mode, change, bound = ARGV[9], ARGV[13], tonumber(ARGV[14])
local first_element = 16 + 3 * ARGV[15]
local added = #ARGV - first_element + 1

if mode == "merge" then
    if not exists or (ARGV[10] ~= "" and created ~= tonumber(ARGV[10])) then
        return {"missing", nonce}
    end
elseif mode == "create" and exists then
    return {"exists", nonce}
end
if exists then
    --#include _intact.lua
else
    version, first, count, history_version, created = 0, 1, 0, 0, now
    -- The ETag names the time of creation: the successor of a deleted session starts a millisecond later at least.
    local ended = tonumber(redis.call("HGET", tokens, "ended"))
    if ended and ended >= now then
        created = ended + 1
    end
end
if mode == "merge" then
    if (change == "rewrite" or change == "remove") and history_version ~= bound then
        return {"conflict", nonce, version, "history"}
    end
    for at = 16, first_element - 1, 3 do
        local field = "d:" .. ARGV[at]
        local stored, loaded, value = redis.call("HGET", session, field) or "", ARGV[at + 1], ARGV[at + 2]
        -- A text, true, false, null or nothing that two writers made the same is no collision. The same number, array
        -- or object may hide two changes: both may have counted, or appended.
        if stored ~= loaded and (stored ~= value or string.find(stored, "^[-%d%[{]")) then
            return {"conflict", nonce, version, field}
        end
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
local fields_set = false
for at = 16, first_element - 1, 3 do
    fields_set = fields_set or ARGV[at + 2] ~= ""
end
shape = ARGV[11] ~= "" and ARGV[11] or shape
--#include _shape.lua

-- The first write is one that a full server refuses: then nothing is written.
version = version + 1
redis.call("HSET", session, "version", version, "created", created, "updated", updated, "first", first + drop,
    "count", count + added - drop, "history_version", change == "keep" and history_version or version, "shape", shape)
if not exists then
    -- What is left of an evicted session is not part of the new one.
    redis.call("UNLINK", history)
    local new_owner = owner == "*" and "" or owner
    if new_owner ~= "" then
        redis.call("HSET", session, "owner", new_owner)
    end
    if new_owner ~= tokens_owner then
        redis.call("UNLINK", tokens)
        known = {}
    end
    redis.call("HSET", tokens, "owner", new_owner)
end
--#include _push.lua
if drop > 0 then
    redis.call("LTRIM", history, drop, -1)
end
if exists and mode == "replace" then
    for _, field in ipairs(redis.call("HKEYS", session)) do
        if string.sub(field, 1, 2) == "d:" then
            redis.call("HDEL", session, field)
        end
    end
    complete = false
end
for at = 16, first_element - 1, 3 do
    local name, value = ARGV[at], ARGV[at + 2]
    --#include _set_field.lua
end
if ARGV[12] ~= "" then
    own_ttl = ARGV[12]
    redis.call("HSET", session, "ttl", own_ttl)
end
--#include _remember.lua
--#include _lifetime.lua
--#include _expire.lua
return {"ok", nonce, version, first_seq, created, updated, now + lifetime, history_version}
