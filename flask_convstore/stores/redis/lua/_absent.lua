-- _absent: remember under its token that a delete has found no session, so that its repeat spares one that began since. Only
-- where the tokens are nobody else's, and no more than MAX_TOKENS.
local whose = redis.call("HMGET", tokens, "owner", "asker", "ended")
local facts = (whose[1] and 1 or 0) + (whose[2] and 1 or 0) + (whose[3] and 1 or 0)
local asker = whose[1] or whose[2]
local is_ours = not asker or owner == "*" or owner == asker
if is_ours and redis.call("HLEN", tokens) - facts < MAX_TOKENS then
    local left, may = redis.call("PTTL", tokens), redis.acl_check_cmd or type -- fakeredis has none
    local lacks = not may("HSET", tokens, "owner", "") and "HSET" or not may("PEXPIRE", tokens, 1) and "PEXPIRE"
    --#include _rights.lua
    redis.call("HSET", tokens, "t:" .. token, string.format("0 0 %d 0 0 %s", now, ARGV[4]))
    if not asker then
        redis.call("HSET", tokens, "asker", owner == "*" and "" or owner)
    end
    if left < TOMBSTONE then
        redis.call("PEXPIRE", tokens, TOMBSTONE)
    end
end
