-- _absent: remember under its token that a delete has found no session, so that its repeat spares one that began since. Only
-- where the tokens are nobody else's, and no more than max_tokens.
local whose = redis.call("HMGET", tokens, "owner", "writes", "ended")
local facts = (whose[1] and 1 or 0) + (whose[2] and 1 or 0) + (whose[3] and 1 or 0)
local is_ours = not whose[1] or owner == "*" or owner == whose[1]
if is_ours and redis.call("HLEN", tokens) - facts < tonumber(ARGV[9]) then
    local left, may = redis.call("PTTL", tokens), redis.acl_check_cmd or type -- fakeredis has none
    local lacks = not may("HSET", tokens, "owner", "") and "HSET" or not may("PEXPIRE", tokens, 1) and "PEXPIRE"
    --#include _rights.lua
    redis.call("HSET", tokens, "t:" .. token, string.format("0 0 %d 0 0 0 %s", now, ARGV[8]), "owner",
        whose[1] or owner == "*" and "" or owner)
    if left < tonumber(ARGV[6]) then
        redis.call("PEXPIRE", tokens, ARGV[6])
    end
end
