--[[
link: let an alias lead to a session, if it leads where the caller expects.

KEYS[1]  alias       string: a session's id
ARGV[1]  nonce       echoed in the reply
ARGV[2]  expected    "*" anywhere, "" to nothing, "=<id>" to that session
ARGV[3]  session_id  the session to which it shall lead, "" to nothing
ARGV[4]  lifetime    milliseconds the alias lives from now

Returns  {"ok", nonce, session_id}   the session to which it leads now, "" to nothing
Cost     O(1)
]]
local alias = KEYS[1]
local nonce, expected, session_id = ARGV[1], ARGV[2], ARGV[3]

local found = redis.call("GET", alias)
if expected ~= "*" and expected ~= (found and "=" .. found or "") then
    return {"ok", nonce, found or ""}
end
if session_id == "" then
    redis.call("DEL", alias)
else
    redis.call("SET", alias, session_id, "PX", ARGV[4])
end
return {"ok", nonce, session_id}
