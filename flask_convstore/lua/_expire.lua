-- _expire: move the one lifetime of a session's keys; its tokens live longer.
redis.call("PEXPIRE", session, lifetime)
redis.call("PEXPIRE", history, lifetime)
redis.call("PEXPIRE", tokens, math.max(lifetime, 0) + ARGV[6])
