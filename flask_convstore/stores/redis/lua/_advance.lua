-- _advance: move first over the oldest messages that go, and over the gaps behind them. Those behind pinned ones become a
-- gap. Needs drop, over and pinned.
local left = #pinned > 0 and drop - over or drop
if gaps == "" then
    first = first + left
elseif left > 0 then
    local total = string.match(gaps, "^%d+")
    local at = #total + 1
    while true do
        local _, stop, from, to = string.find(gaps, "^ (%d+)%-(%d+)", at)
        if not from or left < from - first then
            break
        end
        left, total = left - (from - first), total - (to - from + 1)
        first, at = to + 1, stop + 1
    end
    first, gaps = first + left, at > #gaps and "" or string.format("%d%s", total, string.sub(gaps, at))
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
