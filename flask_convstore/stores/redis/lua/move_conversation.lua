--[[
move_conversation: end a turn by moving the conversation, once: it goes on in another session, and this one takes no
messages.

KEYS[1..3]  session, history, tokens
ARGV[1..4]  as in _open.lua, then
ARGV[5]     turn      the attempt that has the turn
ARGV[6]     moved_to  the id of the session in which the conversation goes on
ARGV[7]     expected  the version it must have, or "<created>-<version>", "" any

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}   as append does, first_seq 0
         {"repeated", nonce, receipt, created, now, expires}   this token is known. Only the lifetime moved
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"forbidden", nonce}                      another owner shares it, and it may be read only. Nothing was written
         {"missing", nonce}                        no such session for this owner
         {"moved", nonce, session_id}              another owner's, who shares it. It goes on there
         {"lost", nonce}                           another turn has taken over. Nothing was written
         {"conflict", nonce, version, "version"}   not the expected version. Nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole. Nothing was written
Cost     O(1), whatever the length of the history
]]
local owners_only = false
local lasting = false
--#include _open.lua
local event = "moved"
--#include _repeated.lua
local expected = ARGV[7]
if not exists then
    return {"missing", nonce}
end
--#include _intact.lua
local turn = redis.call("HMGET", session, "turn", "turn_seq")
if turn[1] ~= ARGV[5] then
    return {"lost", nonce}
end
--#include _expected.lua

local first_seq, drop, pinned, updated = 0, 0, {}, math.max(now, created)
local mark_seq, mark_status = tonumber(turn[2]) or 0, ""
--#include _marked.lua
local may = redis.acl_check_cmd or type -- fakeredis has none
local lacks = not may("HSET", session, "version", 0) and "HSET" or not may("HDEL", session, "turn") and "HDEL" or not may("LSET", history, 0, "") and "LSET"
    or not may("HINCRBY", session, "count", 1) and "HINCRBY" or not may("PEXPIREAT", receipts, 1) and "PEXPIREAT"
--#include _rights.lua
version = version + 1
-- The first write is one that a full server refuses. Then nothing is written.
redis.call("HSET", session, "version", version, "updated", updated, "moved_to", ARGV[6])
redis.call("HDEL", session, "turn", "turn_until", "turn_seq", "reply")
--#include _mark.lua
--#include _done.lua
