-- _fit: refuse a write that passes a limit, before the first write. Needs added (messages), drop (oldest messages that
-- go), first_element (messages stand in ARGV from there to the end), data_after (bytes of data) and reserved (further
-- messages that must find room). Gives history_after (bytes). Where the oldest messages go, raises drop by over, their
-- number, and gives pinned, the messages before them that stay.
local history_after = history_bytes
for at = first_element, #ARGV do
    history_after = history_after + #ARGV[at]
end
local count_after = count + added - drop
if added > 0 and not TRIM and count_after + reserved > MAX_HISTORY or added > MAX_HISTORY then
    return {"too_large", nonce, "history", MAX_HISTORY, count_after + reserved}
end
local over, pinned = added > 0 and math.max(0, count_after - MAX_HISTORY) or 0, {}
if over > 0 then
    --#include _pinned.lua
    drop = drop + over
end
if drop == count then
    history_after = history_after - history_bytes
elseif drop > 0 then
    for _, element in ipairs(redis.call("LRANGE", history, 0, drop + #pinned - 1)) do
        history_after = history_after - #element
    end
    for _, element in ipairs(pinned) do
        history_after = history_after + #element
    end
end
if data_after > data_bytes and data_after > MAX_DATA_BYTES then
    return {"too_large", nonce, "data", MAX_DATA_BYTES, data_after}
end
local before, after = history_bytes + data_bytes, history_after + data_after
if after > before and after > MAX_SESSION_BYTES then
    return {"too_large", nonce, "session", MAX_SESSION_BYTES, after}
end
