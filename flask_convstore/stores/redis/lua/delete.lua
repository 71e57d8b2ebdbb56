--[[
delete: remove a session, once. A tombstone stays behind, with the receipts that a repeat may still ask for.

KEYS[1..3]  session, history, tokens
ARGV[1..4]  as in _open.lua, then
ARGV[5]     expected  the version it must have, or "<created>-<version>", "" any
ARGV[6]     created   milliseconds since 1970: time of creation of the session that is meant, "" any
ARGV[7]     loaded    the version that the writer knows, "" any. See _late.lua
ARGV[8]     at        milliseconds since 1970: time when it was removed elsewhere, "" now

Returns  {"ok", nonce, version, first_seq, created, now, now, history_version, {owner}}   as put does. version: its last one.
             owner: "" nobody, or "=name", whose index has to hear of it
         {"repeated", nonce, receipt, created, now, expires}   this token is known
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"missing", nonce}   no such session for this owner, now or the first time. With a digest that is remembered
         {"moved", nonce, session_id} another owner's, who shares it. It goes on there
         {"forbidden", nonce}   another owner shares it
         {"conflict", nonce, version, "version"}   not the expected version. Nothing was written
         {"corrupt", nonce, "tokens"}   the receipt under this token is not ours. Nothing was written
Cost     O(messages + fields), freed by the server in the background, and O(receipts)

A session can be deleted on a full server, and where it is not whole.
]]
--#include _sound.lua
local owners_only = true
local lasting = true
--#include _open.lua
local event = "delete"
if receipt and string.sub(receipt, 1, 2) == "0 " then
    return {"missing", nonce} -- the first time there was none
end
--#include _repeated.lua
local expected = ARGV[5]
if not exists and ARGV[4] ~= "" then
    --#include _absent.lua
end
if not exists or (ARGV[6] ~= "" and created ~= tonumber(ARGV[6])) then
    return {"missing", nonce}
end
local loaded, adds = ARGV[7], false
--#include _late.lua
version, meta[1], meta[3] = version or 0, meta[1] or "0", meta[3] or "0"
--#include _expected.lua
created, history_version = created and created < 253402300799000 and created or 0, history_version or 0
local first_seq, lifetime = 0, 0
first = math.huge -- no message is left, so that no id is kept
local may = redis.acl_check_cmd or type -- fakeredis has none
local lacks = not may("HSET", tokens, "owner", "") and "HSET" or not may("PEXPIRE", tokens, 1) and "PEXPIRE"
    or not may("PEXPIREAT", tokens, 1) and "PEXPIREAT"
--#include _rights.lua
reply_in_progress = false
--#include _forget_streams.lua
redis.call("UNLINK", session, history, session .. ":events")
redis.call("HSET", tokens, "ended", math.max(tonumber(ARGV[8]) or now, created), "owner", meta[2] or "")
--#include _remember.lua
--#include _leave_behind.lua
redis.call("PEXPIRE", tokens, TOMBSTONE)
return {"ok", nonce, version, first_seq, created, now, now, history_version, {meta[2] or ""}}
