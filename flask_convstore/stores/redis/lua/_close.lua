-- _close: end the stream of a reply with its last parts. Needs what _closing.lua gives, first_seq,
-- version and streams. The stream does not outlive the session.
if part_count > 0 then
    local stream, last, is_anothers = session .. ":reply:" .. reply, newest_part, replaces_stream
    local first_part, last_part = 14, 13 + part_count
    local stored = string.format("%d %d", first_seq, version)
    --#include _feed.lua
    --#include _lifetime.lua
    redis.call("PEXPIRE", stream, math.max(1, math.min(lifetime, ARGV[13])))
    if newest_part == 0 then
        --#include _name_stream.lua
    end
end
