-- _gap: add the gap from gap_from to gap_to to gaps. Where it touches others they become one. A gap at the beginning moves
-- first.
local apart, is_in = {}, false
for from, to in string.gmatch(gaps, "(%d+)%-(%d+)") do
    if to + 1 >= gap_from and tonumber(from) <= gap_to + 1 then
        gap_from, gap_to = math.min(from, gap_from), math.max(to, gap_to)
    else
        if tonumber(from) > gap_to and not is_in then
            apart[#apart + 1] = string.format("%d-%d", gap_from, gap_to)
            is_in = true
        end
        apart[#apart + 1] = from .. "-" .. to
    end
end
if not is_in then
    apart[#apart + 1] = string.format("%d-%d", gap_from, gap_to)
end
gaps = table.concat(apart, " ")
local head_from, head_to = string.match(gaps, "^(%d+)%-(%d+)")
if tonumber(head_from) == first then
    first, gaps = head_to + 1, string.gsub(gaps, "^%d+%-%d+ ?", "")
end
