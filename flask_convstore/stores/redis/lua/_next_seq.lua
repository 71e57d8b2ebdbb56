-- _next_seq: give next_seq, the seq of the next message. Needs first, count and gaps.
local next_seq = first + count
if gaps ~= "" then
    for from, to in string.gmatch(gaps, "(%d+)%-(%d+)") do
        next_seq = next_seq + to - from + 1
    end
end
