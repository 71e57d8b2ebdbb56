-- _mark: write mark_status into the envelope of the message mark_seq, or take the status out where it is "". The envelope
-- is the JSON object between the version byte and the first newline. Its status stands last. A redacted message stays
-- redacted.
local seq = mark_seq
--#include _place.lua
local element = place and redis.call("LINDEX", history, place)
if element then
    local line_end = string.find(element, "\n", 1, true)
    local envelope = string.sub(element, 1, line_end - 2)
    local is_redacted = string.find(envelope, ',"status":"redacted"$')
    envelope = is_redacted and envelope or string.gsub(envelope, ',"status":"%a+"$', "")
    if mark_status ~= "" and not is_redacted then
        envelope = envelope .. ',"status":"' .. mark_status .. '"'
    end
    local marked = envelope .. "}" .. string.sub(element, line_end)
    if marked ~= element then
        redis.call("LSET", history, place, marked)
        redis.call("HINCRBY", session, "history_bytes", #marked - #element)
    end
end
