-- _name: note which of the messages that are added have ids of their own. Needs next_seq, first_element and gaps.
local gap_behind, seq, from, to = nil, next_seq, nil, nil
if not exists then -- only a session that is created has gaps among them
    gap_behind = string.gmatch(gaps, " (%d+)%-(%d+)")
    from, to = gap_behind()
end
for at = first_element, #ARGV do
    while from and seq >= tonumber(from) do
        seq = to + 1
        from, to = gap_behind()
    end
    local id = string.match(ARGV[at], '^1{"at":%d+,"id":"([^"]+)"')
    if id then
        names = names or {}
        names[#names + 1] = "m:" .. id
        names[#names + 1] = string.format("%d %s", seq, token)
    end
    seq = seq + 1
end
