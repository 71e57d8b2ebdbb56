--[[
save: create a session, replace it, or merge into it what its reader changed, once.

KEYS[1..3]  session, history, tokens; ARGV[1..8] as in _begin.lua, then
ARGV[9]     mode         "replace" creates or replaces all; "create" only creates; "merge" writes the given changes into a
                         session that exists, all or none
ARGV[10]    shape        "full" data and history, "data" no history, "list" bare history; "" as it is
ARGV[11]    own_ttl      milliseconds, kept with the session; "" as it is
ARGV[12]    change       of the history: "keep", "extend", "rewrite", "remove"
ARGV[13]    bound        extend: messages below this seq are dropped; rewrite, remove (merge only): the version at the
                         history's last change that the writer knows of
ARGV[14]    field_count  data fields that follow
ARGV[15..]  name, loaded, value   three per field: the JSON text that the writer had loaded ("" none; merge only) and
                         the new one ("" removes the field)
ARGV[..]    element      an opaque message each, for extend and rewrite

Returns  {"ok", nonce, version, first_seq, created, now, expires, moved}
             first_seq: of the first message given, 0 for none; moved: version at the history's last change before
         {"repeated", nonce, receipt, created, now, expires}   this token is known; only the lifetime moved
         {"missing", nonce}                   the session is another owner's, or there is none to merge into
         {"exists", nonce}                    the session to create exists
         {"conflict", nonce, version, what}   "d:<field>" or "history" changed meanwhile; nothing was written
         {"corrupt", nonce, part}             "session" or "history" is not whole; nothing was written
Cost     O(messages + fields given); a replace also O(fields and messages before)
]]
--#include _begin.lua
local merge, change, bound = ARGV[9] == "merge", ARGV[12], tonumber(ARGV[13])
local first_element = 15 + 3 * ARGV[14]
local added = #ARGV - first_element + 1

if exists then
    if ARGV[9] == "create" then
        return {"exists", nonce}
    end
    --#include _intact.lua
elseif merge then
    return {"missing", nonce}
else
    version, first, count, moved, created = 0, 1, 0, 0, now
    -- The ETag names the time of creation: the successor of a deleted session starts a millisecond later at least.
    local ended = tonumber(redis.call("HGET", tokens, "ended"))
    if ended and ended >= now then
        created = ended + 1
    end
    -- What is left of an evicted session is not part of the new one.
    if redis.call("EXISTS", history) == 1 then
        redis.call("UNLINK", history)
    end
end
if merge then
    if (change == "rewrite" or change == "remove") and moved ~= bound then
        return {"conflict", nonce, version, "history"}
    end
    for at = 15, first_element - 1, 3 do
        local field = "d:" .. ARGV[at]
        local stored, loaded, value = redis.call("HGET", session, field) or "", ARGV[at + 1], ARGV[at + 2]
        -- What two writers made the same is no collision, but for a number: both may have counted.
        if stored ~= loaded and (stored ~= value or string.find(stored, "^[-%d]")) then
            return {"conflict", nonce, version, field}
        end
    end
end

version = version + 1
local first_seq = added > 0 and first + count or 0
local drop = 0
if change == "extend" then
    drop = math.max(0, math.min(bound - first, count))
elseif change ~= "keep" then
    drop = count
end
-- The first write is one that a full server refuses: then nothing is written.
--#include _push.lua
redis.call("HSET", session, "version", version, "created", created, "updated", math.max(now, created),
    "first", first + drop, "count", count + added - drop, "moved", change == "keep" and moved or version,
    "shape", ARGV[10] ~= "" and ARGV[10] or shape)
if drop > 0 then
    redis.call("LTRIM", history, drop, -1)
end
if not exists then
    local new_owner = owner == "*" and "" or owner
    if new_owner ~= "" then
        redis.call("HSET", session, "owner", new_owner)
    end
    redis.call("HSET", tokens, "owner", new_owner)
end
if exists and not merge then
    for _, field in ipairs(redis.call("HKEYS", session)) do
        if string.sub(field, 1, 2) == "d:" then
            redis.call("HDEL", session, field)
        end
    end
    complete = false
end
for at = 15, first_element - 1, 3 do
    local name, value = ARGV[at], ARGV[at + 2]
    --#include _set_field.lua
end
if ARGV[11] ~= "" then
    own_ttl = ARGV[11]
    redis.call("HSET", session, "ttl", own_ttl)
end
--#include _remember.lua
--#include _lifetime.lua
return {"ok", nonce, version, first_seq, created, now, now + lifetime, moved}
