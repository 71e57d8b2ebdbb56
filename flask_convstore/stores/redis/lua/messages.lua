--[[
messages: read some messages of a session, before or after one of them. Moves the lifetime.

KEYS[1..3]  session, history, tokens
ARGV[1..2]  as in touch.lua
ARGV[3]     before  messages with a smaller seq than this, "" the newest
ARGV[4]     limit   most messages, the newest of them
ARGV[5]     after   the oldest messages with a greater seq than this instead, "" not

Returns  {"ok", nonce, version, from, oldest, expires, title, elements, count, seqs, created}   the place of the first of
             them, 0 for the oldest there is, and the seq of that one. title: "" none. seqs: of each of them, where there are gaps
         {"missing", nonce}             no such session for this owner
         {"moved", nonce, session_id}   another owner's, who shares it. It goes on there
         {"corrupt", nonce, part}       "session": the hash is not ours. "history": it does not hold as many messages as it
                                        should
Cost     O(limit + messages between them and the nearer end of the history)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner = ARGV[1], ARGV[2]
--#include _messages.lua
local behind, bound = count, ARGV[5] ~= "" and ARGV[5] + 1 or tonumber(ARGV[3])
if bound then
    --#include _below.lua
    behind = below
end
local from = math.max(0, behind - ARGV[4])
if ARGV[5] ~= "" then
    from = behind
    behind = math.min(count, from + ARGV[4])
end
local elements = behind > from and redis.call("LRANGE", history, from, behind - 1) or {}
local seqs, at = {}, from
--#include _seq_at.lua
local gap_behind = string.gmatch(near, " (%d+)%-(%d+)")
local gap_from, gap_to = gap_behind()
for number = 1, gaps == "" and 0 or #elements do
    while gap_from and seq_at >= tonumber(gap_from) do
        seq_at = math.max(seq_at, gap_to + 1)
        gap_from, gap_to = gap_behind()
    end
    seqs[number], seq_at = seq_at, seq_at + 1
end
return {"ok", nonce, version, from, first, now + lifetime, title, elements, count, seqs, created}
