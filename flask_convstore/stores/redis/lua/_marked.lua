-- _marked: write mark_status into the envelope of the message mark_seq, or take the status out where it is "". The envelope
-- is the JSON object between the version byte and the first newline. Its status stands last. A redacted message stays
-- redacted. Needs drop and pinned (of _fit.lua), and what _place.lua does. Gives marked, the new element (false: nothing
-- changes), for _mark.lua.
local seq = mark_seq
--#include _place.lua
local mark_index = place
local mark_stays = mark_index and (mark_index < #pinned or mark_index >= drop + #pinned)
local unmarked, marked = mark_stays and redis.call("LINDEX", history, mark_index), false
if unmarked then
    local line_end = string.find(unmarked, "\n", 1, true)
    local envelope = string.sub(unmarked, 1, line_end - 2)
    local is_redacted = string.find(envelope, ',"status":"redacted"$')
    envelope = is_redacted and envelope or string.gsub(envelope, ',"status":"%a+"$', "")
    if mark_status ~= "" and not is_redacted then
        envelope = envelope .. ',"status":"' .. mark_status .. '"'
    end
    marked = envelope .. "}" .. string.sub(unmarked, line_end)
    marked = marked ~= unmarked and marked
end
