-- _closing: find the stream that ends with a turn, if there is one, and refuse to end one that lacks parts, or that this user
-- may not end. Needs part_count.
local reply, epoch, first_number = ARGV[10], ARGV[11], tonumber(ARGV[12])
local newest_part, replaces_stream = 0, false
if part_count > 0 then
    --#include _stream_end.lua
    local may = redis.acl_check_cmd or type -- fakeredis has none
    local lacks = not may("XADD", stream, "1-1", "e", "") and "XADD" or not may("PEXPIRE", stream, 1) and "PEXPIRE"
    --#include _rights.lua
    newest_part, replaces_stream = last, is_anothers
    if last < first_number - 1 then
        return {"behind", nonce, last}
    end
end
