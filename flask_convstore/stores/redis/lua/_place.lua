-- _place: give place, where the message seq stands in the history, 0 for the oldest, or nil. Needs first, count and gaps.
local place = seq - first
if gaps ~= "" then
    for from, to in string.gmatch(gaps, "(%d+)%-(%d+)") do
        if seq > tonumber(to) then
            place = place - (to - from + 1)
        elseif seq >= tonumber(from) then
            place = -1
        end
    end
end
if place < 0 or place >= count then
    place = nil
end
