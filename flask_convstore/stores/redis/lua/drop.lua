--[[
drop: take messages out of a session, once. The others keep their seqs and ids.

KEYS[1..3]  session, history, tokens
ARGV[1..4]  as in _open.lua, then
ARGV[5]     expected  the version it must have, or "<created>-<version>", "" any
ARGV[6]     how       "newest": so many of the newest. "after": all behind a message. "message": that one
ARGV[7]     target    a number of messages, or the message: a seq, or "=<id>". "after" 0: all messages

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}   as append does
             first_seq: of the oldest message that was taken out, 0 for none
         {"repeated", nonce, receipt, created, now, expires}   this token is known. Only the lifetime moved
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"forbidden", nonce}                      another owner shares it, and it may be read only. Nothing was written
         {"missing", nonce}                        no such session for this owner
         {"moved", nonce, session_id}              another owner's, who shares it. It goes on there
         {"gone", nonce}                           there is no such message. Nothing was written
         {"conflict", nonce, version, "version"}   not the expected version. Nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole. Nothing was written
Cost     O(messages that are taken out). One from the middle: O(messages)
]]
local owners_only = false
local lasting = false
--#include _open.lua
local event = "dropped"
--#include _repeated.lua
if not exists then
    return {"missing", nonce}
end
--#include _intact.lua
local expected, how, target = ARGV[5], ARGV[6], ARGV[7]
--#include _expected.lua
local tail, tail_seq, had_count, first_seq = count, 0, count, 0
local middle = false
--#include _next_seq.lua
if how == "newest" or how == "after" and target == "0" then
    local at = how == "newest" and math.max(0, count - target) or 0
    --#include _seq_at.lua
    tail, tail_seq = at, seq_at
else
    --#include _target.lua
    if not target_place then
        return {"gone", nonce}
    end
    tail, tail_seq = target_place, target_seq
    if how == "after" then
        local seq = target_seq + 1
        --#include _skipped.lua
        tail, tail_seq = target_place + 1, hole and hole + 1 or seq
    elseif target_place < count - 1 then
        middle = redis.call("LINDEX", history, target_place)
    end
end
version = version + 1
local updated, history_after = math.max(now, created), history_bytes
if middle then
    local gap_from, gap_to = tail_seq, tail_seq
    --#include _gap.lua
    count, history_after, first_seq = count - 1, history_bytes - #middle, tail_seq
elseif tail < count then
    first_seq = tail_seq
    --#include _tail.lua
    history_after = history_bytes
end
local may, added = redis.acl_check_cmd or type, 0 -- fakeredis has none
local lacks = middle and not may("LSET", history, 0, "") and "LSET" or middle and not may("LREM", history, 1, "") and "LREM"
    or not may("LTRIM", history, 0, -1) and "LTRIM" or not may("UNLINK", history) and "UNLINK"
    or not may("HDEL", session, "turn") and "HDEL" or not may("PEXPIREAT", receipts, 1) and "PEXPIREAT"
--#include _rights.lua
--#include _though_full.lua
redis.call("HSET", session, "version", version, "updated", updated, "count", count, "first", first, "gaps", gaps,
    "history_bytes", history_after, "history_version", first_seq > 0 and version or history_version)
if middle then
    redis.call("LSET", history, tail, "gone")
    redis.call("LREM", history, 1, "gone")
    local element = middle
    --#include _gone.lua
    --#include _unname.lua
    if tonumber(redis.call("HGET", session, "turn_seq") or 0) == tail_seq then
        redis.call("HDEL", session, "turn", "turn_until", "turn_seq", "reply")
        reply_in_progress = false
    end
    --#include _forget_streams.lua
else
    --#include _cut.lua
end
--#include _done.lua
