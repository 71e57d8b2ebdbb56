-- _forget_streams: remove the streams of replies that a session keeps, since they hold what was taken out of it or changed.
-- Those who listen are told. The stream of the turn in progress stays (reply_in_progress, false: it goes too).
if streams then
    for name in string.gmatch(streams, "%S+") do
        if name ~= reply_in_progress then
            redis.pcall("UNLINK", session .. ":reply:" .. name)
        end
    end
    redis.pcall("PUBLISH", session .. ":bell", "")
end
