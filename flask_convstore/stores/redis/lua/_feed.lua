-- _feed: add the parts ARGV[first_part..last_part] to a reply's stream, numbered from first_number on. Those that are there
-- are left out. Those who listen are told. Needs what _stream_end.lua gives, streams (names of those that the session keeps),
-- and stored ("", or the seq and the version under which the reply stands). A session keeps its last four streams.
if is_anothers then
    redis.call("UNLINK", stream)
end
if last == 0 then
    local kept = {}
    for name in string.gmatch(streams or "", "%S+") do
        if name ~= reply then
            kept[#kept + 1] = name
        end
    end
    if #kept > 3 then
        redis.call("UNLINK", session .. ":reply:" .. table.remove(kept, 1))
    end
    kept[#kept + 1] = reply
    redis.call("HSET", session, "streams", table.concat(kept, " "))
end
for at = first_part, last_part do
    local number = first_number + at - first_part
    if number > last then
        redis.call("XADD", stream, string.format("%d-%s", number, epoch), "e", ARGV[at], "s", stored)
        last = number
    end
end
redis.pcall("PUBLISH", session .. ":bell", reply)
