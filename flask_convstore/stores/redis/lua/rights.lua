--[[
rights: tell which commands this user may not run, of those that writes and reads of a session run.

KEYS[1..3]  session, history, tokens
ARGV[1]     nonce  echoed in the reply

Returns  {"ok", nonce, command, ...}   the commands. None: all may be run, or the server cannot tell
Cost     O(1)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, lacking = ARGV[1], {}
if redis.acl_check_cmd then -- fakeredis has none
    for _, asked in ipairs({
        {"MULTI"}, {"EXEC"}, {"WATCH", session}, {"TIME"},
        {"HSET", session, "owner", ""}, {"HSET", tokens, "owner", ""}, {"HDEL", session, "owner"},
        {"HINCRBY", session, "count", 1}, {"HGET", session, "owner"}, {"HMGET", session, "owner"}, {"HGETALL", session},
        {"HKEYS", session}, {"HEXISTS", session, "owner"}, {"HSTRLEN", session, "owner"}, {"HLEN", tokens},
        {"RPUSH", history, ""}, {"LTRIM", history, 0, -1}, {"LSET", history, 0, ""}, {"LLEN", history},
        {"LINDEX", history, 0}, {"LREM", history, 1, ""}, {"LRANGE", history, 0, -1}, {"EXISTS", session}, {"TYPE", session},
        {"PEXPIREAT", session, 1}, {"PEXPIRE", tokens, 1}, {"PTTL", session}, {"UNLINK", history},
    }) do
        if not redis.acl_check_cmd(unpack(asked)) then
            lacking[#lacking + 1] = asked[1]
        end
    end
end
return {"ok", nonce, unpack(lacking)}
