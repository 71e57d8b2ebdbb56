-- _place: give place, where the message seq stands in the history, 0 for the oldest, or nil. Needs first, count and gaps.
--#include _skipped.lua
local place = seq - first - skipped
if hole or place < 0 or place >= count then
    place = nil
end
