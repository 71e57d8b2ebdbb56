-- _gap: add the gap from gap_from to gap_to to gaps. Where it touches others they become one. A gap at the beginning moves
-- first. The gaps before it and behind it stay as they are.
local size, near, total = 100, nil, string.match(gaps, "^%d+") or ""
repeat
    near, size = string.sub(gaps, -size), size * 8
    local earliest = string.match(near, " %d+%-(%d+)")
until #near == #gaps or earliest and earliest + 1 < gap_from
local before, start, stop, seqs = #gaps - #near, nil, #near + 1, tonumber(total) or 0
for from_at, from, to, to_at in string.gmatch(near, "() (%d+)%-(%d+)()") do
    if tonumber(from) > gap_to + 1 then
        start, stop = start or from_at, start and stop or from_at
        break
    elseif to + 1 >= gap_from then
        start, stop = start or from_at, to_at
        gap_from, gap_to, seqs = math.min(from, gap_from), math.max(to, gap_to), seqs - (to - from + 1)
    end
end
seqs = seqs + gap_to - gap_from + 1
gaps = string.format("%s %d-%d%s", string.sub(gaps, #total + 1, before + (start or stop) - 1), gap_from, gap_to,
    string.sub(gaps, before + stop))
local _, head_end, head_from, head_to = string.find(gaps, "^ (%d+)%-(%d+)")
if tonumber(head_from) == first then
    first, seqs, gaps = head_to + 1, seqs - (head_to - head_from + 1), string.sub(gaps, head_end + 1)
end
gaps = gaps == "" and "" or string.format("%d%s", seqs, gaps)
