--[[
forget: note that all sessions of an owner were deleted, for the journals of other hosts.

KEYS[1]  forgotten  string: milliseconds since 1970
ARGV[1]  nonce      echoed in the reply
ARGV[2]  lifetime   milliseconds that the note lives from now

Returns  {"ok", nonce}
Cost     O(1)

A full server takes it, since the sessions that go with it take more.
]]
local forgotten, nonce = KEYS[1], ARGV[1]
local time = redis.call("TIME")
redis.call("DEL", forgotten) -- a server that has taken the first write of a script takes all of them
redis.call("SET", forgotten, time[1] * 1000 + math.floor(time[2] / 1000), "PX", ARGV[2])
return {"ok", nonce}
