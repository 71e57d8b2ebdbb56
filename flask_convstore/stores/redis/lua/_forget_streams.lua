-- _forget_streams: remove the streams of replies that a session keeps, since they hold what was taken out of it. Those who
-- listen are told. The stream of the turn in progress stays (spared_stream), or goes too ("").
local streams = redis.call("HMGET", session, "streams")[1]
if streams then
    for name in string.gmatch(streams, "%S+") do
        if name ~= spared_stream then
            redis.pcall("UNLINK", session .. ":reply:" .. name)
        end
    end
    redis.pcall("PUBLISH", session .. ":bell", "")
end
