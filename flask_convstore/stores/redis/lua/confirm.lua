--[[
confirm: let WAIT on this connection wait for all that others have written about a session. That is no interaction.

KEYS[1..3]  session, history, tokens
ARGV[1]     nonce  echoed in the reply

Returns  {"ok", nonce}
Cost     O(1)
]]
local tokens, nonce = KEYS[3], ARGV[1]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
--#include _propagate.lua
return {"ok", nonce}
