-- _own_ttl: give a session the lifetime own_ttl_given (milliseconds; "" leaves what it has). Whoever lives as long as the
-- session, its index and its aliases, hears of the new lifetime at once.
if own_ttl_given ~= "" then
    own_ttl, indexed = own_ttl_given, not exists and indexed
    redis.call("HSET", session, "ttl", own_ttl)
end
