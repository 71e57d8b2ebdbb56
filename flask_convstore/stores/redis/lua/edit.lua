--[[
edit: put another text in the place of a message, once. Its seq stays.

KEYS[1..3]  session, history, tokens
ARGV[1..4]  as in _open.lua, then
ARGV[5]     created   milliseconds since 1970: time of creation of the session that is meant, "" any
ARGV[6]     expected  the version it must have, or "<created>-<version>", "" any
ARGV[7]     seq       the message
ARGV[8]     loaded    the message as the editor has read it, opaque
ARGV[9]     element   the new message, opaque
ARGV[10]    title     as _facts.lua has it
ARGV[11]    usage     as _facts.lua has it

Returns  {"ok", nonce, version, seq, created, updated, expires, history_version, due}   as append does
         {"repeated", nonce, receipt, created, now, expires}   this token is known. Only the lifetime moved
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"forbidden", nonce}                      another owner shares it, and it may be read only. Nothing was written
         {"missing", nonce}                        no such session for this owner
         {"moved", nonce, session_id}              another owner's, who shares it. It goes on there
         {"gone", nonce}                           there is no such message. Nothing was written
         {"conflict", nonce, version, what}        "version", or "message", which is not as it was read. Nothing was written
         {"too_large", nonce, what, limit, size}   nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole. Nothing was written
Cost     O(messages behind it)
]]
local owners_only = false
local lasting = false
--#include _open.lua
local event = "edited"
--#include _repeated.lua
local expected = ARGV[6]
if not exists or (ARGV[5] ~= "" and created ~= tonumber(ARGV[5])) then
    return {"missing", nonce}
end
--#include _intact.lua
--#include _expected.lua
local first_seq = tonumber(ARGV[7])
local seq = first_seq
--#include _place.lua
local stored = place and redis.call("LINDEX", history, place)
if not stored then
    return {"gone", nonce}
end
if stored ~= ARGV[8] then
    return {"conflict", nonce, version, "message"}
end
local history_after = history_bytes + #ARGV[9] - #stored
if history_after > history_bytes and history_after + data_bytes > MAX_SESSION_BYTES then
    return {"too_large", nonce, "session", MAX_SESSION_BYTES, history_after + data_bytes}
end
local may = redis.acl_check_cmd or type -- fakeredis has none
local lacks = not may("HSET", session, "version", 0) and "HSET" or not may("LSET", history, 0, "") and "LSET"
    or ARGV[10] == "-" and not may("HDEL", session, "title") and "HDEL" or not may("UNLINK", session) and "UNLINK"
    or not may("PEXPIREAT", receipts, 1) and "PEXPIREAT"
--#include _rights.lua
version = version + 1
local updated = math.max(now, created) -- a session from elsewhere may have begun by a clock that is ahead
-- The first write is one that a full server refuses. Then nothing is written. Only a redaction is done there too. A raw
-- newline ends the envelope, and stands nowhere in a body.
if string.find(ARGV[9], ',"status":"redacted"}\n', 1, true) then
    --#include _though_full.lua
end
redis.call("HSET", session, "version", version, "updated", updated, "history_version", version,
    "history_bytes", history_after)
redis.call("LSET", history, place, ARGV[9])
--#include _forget_streams.lua
local title_given, usage_given = ARGV[10], ARGV[11]
--#include _facts.lua
--#include _done.lua
