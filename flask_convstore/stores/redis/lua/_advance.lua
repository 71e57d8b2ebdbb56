-- _advance: move first over the oldest messages that go, and over the gaps behind them. Those behind pinned ones become a
-- gap. Needs drop, over and pinned.
local left = #pinned > 0 and drop - over or drop
if gaps == "" then
    first = first + left
elseif left > 0 then
    for from, to in string.gmatch(gaps, "(%d+)%-(%d+)") do
        if left < from - first then
            break
        end
        left = left - (from - first)
        first, gaps = to + 1, string.gsub(gaps, "^%d+%-%d+ ?", "")
    end
    first = first + left
end
if #pinned > 0 then
    local gap_from, gap_to = first + #pinned, first + #pinned + over
    for from, to in string.gmatch(gaps, "(%d+)%-(%d+)") do
        gap_from = gap_from + (gap_from >= tonumber(from) and to - from + 1 or 0)
        gap_to = gap_to + (gap_to >= tonumber(from) and to - from + 1 or 0)
    end
    gap_to = gap_to - 1
    --#include _gap.lua
end
