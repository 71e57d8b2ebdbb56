-- _set_field: set the data field name to value, or remove it where value is "".
if value == "" then
    redis.call("HDEL", session, "d:" .. name)
else
    redis.call("HSET", session, "d:" .. name, value)
end
if name == "complete" then
    complete, indexed = value, not exists and indexed -- the index and the aliases hear of the new lifetime
end
