-- _expire_rest: move the lifetime of what ends with a session beside its hash, as _expire.lua does.
redis.call("PEXPIREAT", history, now + lifetime)
redis.call("PEXPIREAT", session .. ":receipts", now + lifetime)
