-- _skipped: count the seqs below seq that no message has. Needs seq, first and gaps. Gives skipped, and hole: the end of the gap
-- that seq is in, false for none. Most seqs are near the end of the history, so that the last gaps are looked at first.
local skipped, hole = 0, false
if gaps ~= "" and seq > first then
    local size, near, earliest = 100, nil, nil
    repeat
        near, size = string.sub(gaps, -size), size * 8
        earliest = string.match(near, " (%d+)%-")
    until #near == #gaps or earliest and tonumber(earliest) <= seq
    skipped = tonumber((string.match(gaps, "^%d+")))
    for from, to in string.gmatch(near, " (%d+)%-(%d+)") do
        if tonumber(to) >= seq then
            skipped = skipped - (to - math.max(from, seq) + 1)
            hole = hole or tonumber(from) <= seq and tonumber(to)
        end
    end
end
