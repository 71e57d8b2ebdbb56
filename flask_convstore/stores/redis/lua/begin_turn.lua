--[[
begin_turn: add a user's message, or none, and take the turn, once. The same token again gets the end of that turn, or
takes it anew if the first attempt died or failed and its message is still the last.

KEYS[1..3]  session, history, tokens
KEYS[4]     gate       as in touch.lua, or absent
ARGV[1..4]  as in _open.lua, then
ARGV[5]     expected   the version it must have, or "<created>-<version>", "" any
ARGV[6]     lease      milliseconds the turn is ours without being renewed
ARGV[7]     supersede  "1": take the turn from another attempt, "0": refuse
ARGV[8]     attempt    the try that gets the turn. The same try repeated has it already
ARGV[9]     title      as _facts.lua has it
ARGV[10]    usage      as _facts.lua has it
ARGV[11]    replaces   the message that gives way, with all behind it: a seq, or "=<id>", "" none
ARGV[12]    wait       milliseconds for which this attempt stands in line if it cannot have the turn now, "0": it does not
ARGV[13]    element    the message, opaque, absent where there is none

Returns  {"ok", nonce, version, first_seq, created, updated, expires, history_version, due}
             first_seq: of the message, 0 for none. due: see _due.lua
         {"resumed", nonce, receipt, created, now, expires, "", token}   this token is known, and this attempt has the turn: it had it
             before, or the earlier attempt died or failed, its message is still the last, and the turn is taken anew
         {"repeated", nonce, receipt, created, now, expires, reply, token}   this token is known, and the turn has ended, or
             its session is gone. reply: the receipt of its end, "" if it has not ended. token: under which the turn began,
             another one where the message was known by its id
         {"busy", nonce, milliseconds, known}      another turn, or the first attempt at this one, is in progress, or others
             stand before it in line (500). known: 1 if the token is known, so that the message is stored. Else 0, and nothing
             was written
         {"unended", nonce, reply, milliseconds}   the reply of the turn before is streamed, and was not ended: its lease is over,
             or it is superseded. Nothing was written
         {"lost", nonce, 1}                        the token is known, the turn was not ended, and others have written since, or are
             about to. So the message is stored
         {"reused", nonce}                         this token came with another request. Nothing was written
         {"known", nonce, id}                      another message has this id. Nothing was written
         {"gone", nonce}                           there is no message to replace. Nothing was written
         {"forbidden", nonce}                      another owner shares it, for reading, or no message. Nothing was written
         {"missing", nonce}                        no such session for this owner
         {"moved", nonce, session_id}              the conversation goes on there. Nothing was written
         {"conflict", nonce, version, "version"}   not the expected version. Nothing was written
         {"history_key", nonce, name}              a data field has the key of the history. Nothing was written
         {"too_large", nonce, what, limit, size}   of "history" (messages), "data", "session" (bytes). Nothing was written
         {"corrupt", nonce, part}                  "session", "history" or "tokens" is not whole. Nothing was written
Cost     O(1, and messages replaced), whatever the length of the history
]]
local owners_only = #ARGV < 13 -- the holder of a turn without a message moves the conversation
local lasting = false
--#include _open.lua
local event = "turn"
local expected, attempt = ARGV[5], ARGV[8]
local turn = redis.call("HMGET", session, "turn", "turn_until", "turn_seq", "waiting", "reply")
local had_message, standing = #ARGV > 12, turn[4]
local remaining = turn[1] and (tonumber(turn[2]) or now) - now or 0
local title_given, usage_given = ARGV[9], ARGV[10]
local all_known, first_element, target, tail, tail_seq, had_count = false, 13, ARGV[11], count, 0, count
if exists and not receipt then
    --#include _ours.lua
    if target ~= "" then
        --#include _target.lua
        tail, tail_seq = target_place or count, target_seq
    end
    local has_fields = false
    --#include _known.lua
end

-- Others commit what the stream of its reply holds before the turn is taken.
if exists and turn[1] and turn[5] and turn[1] ~= attempt and (remaining <= 0 or ARGV[7] == "1" and not receipt) then
    return {"unended", nonce, turn[5], remaining}
end
--#include _line.lua
if receipt then
    --#include _leave.lua
    -- The turn's end is kept under its token and the version that its message made.
    local reply = redis.call("HGET", receipts, "t:" .. token .. "\n" .. string.match(receipt, "^%d+")) or ""
    if gone then
        return {"repeated", nonce, receipt, 0, 0, 0, reply, token}
    end
    --#include _lifetime.lua
    --#include _expire.lua
    if reply ~= "" then
        return {"repeated", nonce, receipt, created or 0, now, now + lifetime, reply, token}
    end
    --#include _intact.lua
    local message_seq = tonumber(string.match(receipt, "^%d+ (%d+)"))
    if turn[1] ~= attempt then
        local turn_seq = tonumber(turn[3]) or 0 -- another message's turn: that one stands behind this message
        if remaining > 0 and (turn_seq == 0 or turn_seq == message_seq) then
            return {"busy", nonce, remaining, 1}
        end
        --#include _next_seq.lua
        local last_seq, last_from, last_to = next_seq - 1, string.match(string.sub(gaps, -40), "(%d+)%-(%d+)$")
        if tonumber(last_to) == last_seq then
            last_seq = last_from - 1
        end
        if count == 0 and had_message or message_seq ~= last_seq then
            return {"lost", nonce, 1}
        end
        if message_seq > 0 then
            -- Keep the seq for the reply, which a turn of an earlier version has not.
            local gap_from, gap_to = message_seq + 1, message_seq + 1
            --#include _gap.lua
            redis.call("HSET", session, "gaps", gaps)
        end
    end
    redis.call("HSET", session, "turn", attempt, "turn_until", now + ARGV[6], "turn_seq", message_seq)
    return {"resumed", nonce, receipt, created, now, now + lifetime, "", token}
end
if not exists then
    --#include _missing.lua
end
--#include _moved.lua
--#include _expected.lua
if (remaining > 0 or not is_first) and ARGV[7] ~= "1" then
    if ARGV[12] ~= "0" then
        table.insert(line, mine or #line + 1, attempt .. " " .. now + ARGV[12])
        redis.pcall("HSET", session, "waiting", table.concat(line, " "))
    end
    --#include _call_off.lua
    return {"busy", nonce, remaining > 0 and remaining or 500, 0}
end

local drop, data_after, fields_set = 0, data_bytes, false
local added = #ARGV - first_element + 1
local reserved = 1 -- for the reply
local removes = false
--#include _next_seq.lua
local first_seq = added > 0 and next_seq or 0
if target ~= "" then
    if tail == count then
        return {"gone", nonce}
    end
    --#include _tail.lua
end
--#include _key.lua
--#include _shape.lua
--#include _key_is_free.lua
--#include _fit.lua
local mark_seq, mark_status = tonumber(turn[3]) or 0, remaining > 0 and "superseded" or "interrupted"
--#include _marked.lua
version = version + 1
local history_changed = added > 0 or turn[1] or target ~= ""
--#include _name.lua
if target ~= "" then
    --#include _cut.lua
end
if added > 0 then
    local gap_from, gap_to = first_seq + 1, first_seq + 1 -- for the reply
    --#include _gap.lua
end
local also = {"turn", attempt, "turn_until", now + ARGV[6], "turn_seq", first_seq}
--#include _add.lua
if standing and standing ~= "" then
    redis.call("HSET", session, "waiting", table.concat(line, " "))
end
--#include _mark.lua
--#include _facts.lua
--#include _done.lua
