-- _below: count the messages with a seq below bound. Gives below. Needs first, count and gaps.
local below = bound - first
if gaps ~= "" then
    for from, to in string.gmatch(gaps, "(%d+)%-(%d+)") do
        if tonumber(from) < bound then
            below = below - (math.min(to, bound - 1) - from + 1)
        end
    end
end
below = math.max(0, math.min(count, below))
