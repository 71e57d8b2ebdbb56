--[[
message: read one message of a session. Moves the lifetime.

KEYS[1..3]  session, history, tokens
ARGV[1..2]  as in touch.lua
ARGV[3]     target  a seq, or "=<id>"

Returns  {"ok", nonce, version, seq, oldest, expires, title, elements}   the seq of the oldest there is. title: "" none.
             elements: one
         {"gone", nonce}                there is no such message
         {"missing", nonce}             no such session for this owner
         {"moved", nonce, session_id}   another owner's, who shares it. It goes on there
         {"corrupt", nonce, part}       "session": the hash is not ours. "history": it does not hold as many messages as it
                                        should
Cost     O(messages behind it)
]]
local session, history, tokens, receipts = KEYS[1], KEYS[2], KEYS[3], KEYS[1] .. ":receipts"
local nonce, owner = ARGV[1], ARGV[2]
--#include _messages.lua
local target = ARGV[3]
--#include _target.lua
if not target_place then
    return {"gone", nonce}
end
local elements = redis.call("LRANGE", history, target_place, target_place)
return {"ok", nonce, version, target_seq, first, now + lifetime, title, elements}
