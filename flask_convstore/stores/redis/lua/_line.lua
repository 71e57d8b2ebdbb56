-- _line: read who stands in line for the turn, each with the end of its ticket. Tickets that have ended are passed over. Needs
-- attempt, and standing, the text of the line. Gives line, a list without this attempt, mine, its place there (nil: it has
-- none), and is_first.
local line, mine = {}, nil
for who, ends in string.gmatch(standing or "", "(%S+) (%d+)") do
    if who == attempt then
        mine = #line + 1
    elseif tonumber(ends) > now then
        line[#line + 1] = who .. " " .. ends
    end
end
local is_first = #line == 0 or mine == 1
