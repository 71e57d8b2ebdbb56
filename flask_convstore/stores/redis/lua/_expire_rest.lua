-- _expire_rest: move the lifetime of a session's keys beside its hash, as _expire.lua does.
redis.call("PEXPIREAT", history, now + lifetime)
redis.call("PEXPIREAT", session .. ":receipts", now + lifetime)
redis.call("PEXPIREAT", tokens, now + math.max(lifetime, 0) + ARGV[6])
