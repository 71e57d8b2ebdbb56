-- _name_stream: note a stream that begins among those that a session keeps, of which the oldest goes. Needs reply, and streams
-- (their names).
do
    local kept = {}
    for name in string.gmatch(streams or "", "%S+") do
        if name ~= reply then
            kept[#kept + 1] = name
        end
    end
    local oldest = #kept > 3 and table.remove(kept, 1)
    kept[#kept + 1] = reply
    redis.call("HSET", session, "streams", table.concat(kept, " "))
    if oldest then
        redis.pcall("UNLINK", session .. ":reply:" .. oldest)
    end
end
