--[[
watch_index: let an owner's index tell those who follow the owner's list of sessions that are new, or become active.

KEYS[1]  watched  string: the channel of those who follow
ARGV[1]  nonce    echoed in the reply
ARGV[2]  channel  as _tell.lua makes it
ARGV[3]  lasts    milliseconds for which it does

Returns  {"ok", nonce}
Cost     O(1)
]]
redis.call("SET", KEYS[1], ARGV[2], "PX", ARGV[3])
return {"ok", ARGV[1]}
