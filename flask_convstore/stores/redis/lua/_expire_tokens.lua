-- _expire_tokens: move the lifetime of the tombstone, which outlives the session.
redis.call("PEXPIREAT", tokens, now + math.max(lifetime, 0) + TOMBSTONE)
