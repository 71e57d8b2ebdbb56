-- _feed: add the parts ARGV[first_part..last_part] to a reply's stream, numbered from first_number on. Those that are there
-- are left out. Those who listen are told. Needs what _stream_end.lua gives, and stored ("", or the seq and the version under
-- which the reply stands).
if is_anothers then
    redis.call("UNLINK", stream)
end
for at = first_part, last_part do
    local number = first_number + at - first_part
    if number > last then
        redis.call("XADD", stream, string.format("%d-%s", number, epoch), "e", ARGV[at], "s", stored)
        last = number
    end
end
redis.pcall("PUBLISH", session .. ":bell", reply)
