-- _seq_at: give seq_at, the seq of the message at the place at, and near: the last gaps, with all behind it. Needs first and
-- gaps.
local size, seq_at, near = 100, 0, nil
repeat
    local earliest = nil
    near, size, seq_at = string.sub(gaps, -size), size * 8, first + at + (string.match(gaps, "^%d+") or 0)
    for from, to in string.gmatch(near, " (%d+)%-(%d+)") do
        seq_at = seq_at - (to - from + 1)
    end
    for from, to in string.gmatch(near, " (%d+)%-(%d+)") do
        earliest = earliest or tonumber(from)
        if seq_at >= tonumber(from) then
            seq_at = seq_at + to - from + 1
        end
    end
until #near == #gaps or earliest and seq_at > earliest
