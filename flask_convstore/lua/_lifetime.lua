-- _lifetime: move the one lifetime of a session's keys. Needs own_ttl and complete; gives lifetime.
local lifetime = tonumber(own_ttl) or (complete == "true" and tonumber(ARGV[6])) or tonumber(ARGV[5])
redis.call("PEXPIRE", session, lifetime)
redis.call("PEXPIRE", history, lifetime)
redis.call("PEXPIRE", tokens, lifetime + ARGV[7])
