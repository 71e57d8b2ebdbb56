-- _own_ttl: give a session the lifetime own_ttl_given (milliseconds, "" leaves the one it has). Its owner's index and its
-- aliases live as long as the session, so that they hear of the new lifetime at once.
if own_ttl_given ~= "" then
    own_ttl, indexed = own_ttl_given, not exists and indexed
    redis.call("HSET", session, "ttl", own_ttl)
end
