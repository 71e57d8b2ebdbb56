--[[
follow: tell where an alias leads.

KEYS[1]  alias     string: a session's id
ARGV[1]  nonce     echoed in the reply
ARGV[2]  lifetime  milliseconds the alias lives from now, unless it lives longer

Returns  {"ok", nonce, session_id}   "": it leads to nothing
Cost     O(1)

Where only writes are refused, the alias still leads, and lives as long as before: hence pcall.
]]
local alias = KEYS[1]
local nonce, lifetime = ARGV[1], tonumber(ARGV[2])

local found = redis.call("GET", alias)
if found and redis.call("PTTL", alias) < lifetime then
    redis.pcall("PEXPIRE", alias, lifetime)
end
return {"ok", nonce, found or ""}
