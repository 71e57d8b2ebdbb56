-- _stream_end: find the end of a reply's stream. Needs reply and epoch. Gives stream, its key, and last, the number of its
-- last part (0: there is none of this attempt).
local stream, last, is_anothers = session .. ":reply:" .. reply, 0, false
local newest = redis.call("XREVRANGE", stream, "+", "-", "COUNT", 1)[1]
if newest then
    local number, its_epoch = string.match(newest[1], "^(%d+)-(%d+)$")
    is_anothers = its_epoch ~= epoch
    last = is_anothers and 0 or tonumber(number)
end
