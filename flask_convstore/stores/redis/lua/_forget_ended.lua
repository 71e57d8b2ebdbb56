-- _forget_ended: remove the streams of replies that have ended, since a message was changed or taken out.
do
    local spared_stream = redis.call("HMGET", session, "reply")[1] or ""
    --#include _forget_streams.lua
end
