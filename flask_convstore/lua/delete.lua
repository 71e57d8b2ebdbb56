--[[
delete: remove a session, once; its tokens stay behind as a tombstone.

KEYS[1..3]  session, history, tokens; ARGV[1..8] as in _begin.lua

Returns  {"ok", nonce, version, first_seq, created, now, now, history_version}   as save does; version: the last it had
         {"repeated", nonce, receipt, created, now, expires}   this token is known
         {"missing", nonce}   no such session for this owner
Cost     O(messages + fields), freed by the server in the background

Neither a full server nor a session that is not whole keeps it from being deleted.
]]
--#include _begin.lua
if not exists then
    return {"missing", nonce}
end
version, created, history_version = version or 0, created or 0, history_version or 0
local first_seq = 0
redis.call("UNLINK", session, history)
redis.call("HSET", tokens, "ended", math.max(now, created), "owner", meta[2] or "")
--#include _remember.lua
redis.call("PEXPIRE", tokens, ARGV[5])
return {"ok", nonce, version, first_seq, created, now, now, history_version}
