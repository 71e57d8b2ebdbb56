-- _feed: add the parts ARGV[first_part..last_part] to a reply's stream, numbered from first_number on. Those that are there
-- are left out. Those who listen are told. Needs what _stream_end.lua gives, streams (names of those that the session keeps),
-- and stored ("", or the seq and the version under which the reply stands). A session keeps its last four streams.
if is_anothers then
    redis.call("UNLINK", stream)
end
local is_new = last == 0
for at = first_part, last_part do
    local number = first_number + at - first_part
    if number > last then
        redis.call("XADD", stream, string.format("%d-%s", number, epoch), "e", ARGV[at], "s", stored)
        last = number
    end
end
if is_new then
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
redis.pcall("PUBLISH", session .. ":bell", reply)
