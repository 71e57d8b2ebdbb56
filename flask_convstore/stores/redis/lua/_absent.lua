-- _absent: remember under its token that a delete has found no session, so that its repeat spares one that began since. Only
-- where the tokens are nobody else's, and no more than max_tokens.
local whose = redis.call("HMGET", tokens, "owner", "asker", "ended")
local facts = (whose[1] and 1 or 0) + (whose[2] and 1 or 0) + (whose[3] and 1 or 0)
local asker = whose[1] or whose[2]
local is_ours = not asker or owner == "*" or owner == asker
if is_ours and redis.call("HLEN", tokens) - facts < tonumber(ARGV[9]) then
    local left, may = redis.call("PTTL", tokens), redis.acl_check_cmd or type -- fakeredis has none
    local lacks = not may("HSET", tokens, "owner", "") and "HSET" or not may("PEXPIRE", tokens, 1) and "PEXPIRE"
    --#include _rights.lua
    redis.call("HSET", tokens, "t:" .. token, string.format("0 0 %d 0 0 %s", now, ARGV[8]))
    if not asker then
        redis.call("HSET", tokens, "asker", owner == "*" and "" or owner)
    end
    if left < tonumber(ARGV[6]) then
        redis.call("PEXPIRE", tokens, ARGV[6])
    end
end
