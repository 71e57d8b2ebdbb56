--[[
commit_turn: end a turn, once: add the reply, and messages before it, behind its message, change data fields, give the
turn back.

KEYS[1..3]  session, history, tokens
ARGV[1..4]  as in _open.lua, then
ARGV[5]     turn         the attempt that has the turn
ARGV[6]     status       the fate of its message: "" replied, "unanswered", "failed"
ARGV[7]     usage        as _facts.lua has it
ARGV[8]     field_count  data fields that follow
ARGV[9]     part_count   parts that end the reply's stream, "0": there is no stream, or it goes
Then, only where there are parts:
ARGV[10]    reply        id of the reply, which names the stream
ARGV[11]    epoch        number of the attempt, as in feed_reply.lua
ARGV[12]    first        number of the first part given
ARGV[13]    keep         milliseconds for which the stream is kept
ARGV[14..]  part         an opaque part each
Then, in any case:
ARGV[..]    name, loaded, value   three per field, as merge.lua has them
ARGV[..]    element      an opaque message each, absent where there is no reply. The last one is the reply, unless the turn is unanswered. It has the seq that
                         was kept for it, or the id of that seq where others have written since. A turn that needs none
                         gives it back

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}
             first_seq: of the last message, 0 for none. history_version: as it was before. due: see _due.lua
         {"repeated", nonce, receipt, created, now, expires}   this token is known. Only the lifetime moved
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"known", nonce, id}                      another message has this id. Nothing was written
         {"forbidden", nonce}                      another owner shares it, and it may be read only. Nothing was written
         {"missing", nonce}                        no such session for this owner
         {"moved", nonce, session_id}              another owner's, who shares it. It goes on there
         {"behind", nonce, last}                   parts before the first are missing in the stream, of which this is the newest.
             Nothing was written
         {"lost", nonce}                           another turn has taken over. Nothing was written, but that an attempt that
             stood in line has left it
         {"conflict", nonce, version, what}        "d:<field>" was changed meanwhile. Nothing was written
         {"history_key", nonce, name}              a data field has the key of the history. Nothing was written
         {"too_large", nonce, what, limit, size}   of "history" (messages), "data", "session" (bytes). Nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole. Nothing was written
Cost     O(fields, messages and parts given), whatever the length of the history

A lease past its deadline that nobody has taken still commits. It counts who has the turn.
]]
local owners_only = false
local lasting = false
--#include _open.lua
local event = "reply"
--#include _repeated.lua
if not exists then
    return {"missing", nonce}
end
--#include _ours.lua
local turn = redis.call("HMGET", session, "turn", "turn_seq", "waiting", "turn_until")
local attempt, standing = ARGV[5], turn[3]
if turn[1] ~= attempt then
    local remaining = turn[1] and (tonumber(turn[4]) or now) - now or 0
    --#include _line.lua
    --#include _leave.lua
    return {"lost", nonce}
end

local title_given, usage_given = "", ARGV[7]
local part_count = tonumber(ARGV[9])
local first_field = part_count > 0 and 14 + part_count or 10
local first_element = first_field + 3 * ARGV[8]
--#include _closing.lua
local added = #ARGV - first_element + 1
--#include _unknown.lua
--#include _next_seq.lua
local kept = (tonumber(turn[2]) or 0) + 1
if kept > 1 and (added > 0 and ARGV[6] == "" or added == 0 and ARGV[6] == "unanswered") then
    local has_id = added > 0 and string.find(ARGV[#ARGV], '^1{"at":%d+,"id":"')
    local newest, seqs, seq = string.format(" %d-%d", kept, kept), string.match(gaps, "^%d+"), kept
    if string.sub(gaps, -#newest) == newest and next_seq == kept + 1 and added <= 1 then
        next_seq = kept
        gaps = seqs == "1" and "" or string.format("%d%s", seqs - 1, string.sub(gaps, #seqs + 1, -#newest - 1))
    elseif added > 0 and not has_id and kept < next_seq then
        --#include _place.lua
        if not place then -- else a turn of an earlier version has kept no seq
            ARGV[#ARGV] = string.gsub(ARGV[#ARGV], '^1{"at":%d+', string.format('%%0,"id":"msg-%d"', kept))
        end
    end
end
local first_seq = added > 0 and next_seq + added - 1 or 0
local drop, data_after, fields_set, alike_collides = 0, data_bytes, false, false
local removes = true
--#include _key.lua
--#include _merge_fields.lua
--#include _shape.lua
--#include _key_is_free.lua
local reserved = 0
--#include _fit.lua
local mark_seq, mark_status = tonumber(turn[2]) or 0, ARGV[6]
--#include _marked.lua
version = version + 1
local history_changed = added > 0 or ARGV[6] ~= ""
--#include _name.lua
local also = {}
--#include _add.lua
redis.call("HDEL", session, "turn", "turn_until", "turn_seq", "reply")
if reply_in_progress and part_count == 0 then -- the rest of its parts could not be kept
    redis.pcall("UNLINK", session .. ":reply:" .. reply_in_progress)
end
--#include _wake.lua
for at = first_field, first_element - 1, 3 do
    local name, value = ARGV[at], ARGV[at + 2]
    --#include _set_field.lua
end
--#include _mark.lua
--#include _facts.lua
--#include _close.lua
--#include _done.lua
