-- _name: note which of the messages that are added have ids of their own. Needs next_seq, first_element and gaps.
for at = first_element, #ARGV do
    local id = string.match(ARGV[at], '^1{"at":%d+,"id":"([^"]+)"')
    if id then
        local seq = next_seq + at - first_element
        if not exists then -- only a session that is created has gaps among the messages that it is given
            for from, to in string.gmatch(gaps, "(%d+)%-(%d+)") do
                if seq >= tonumber(from) then
                    seq = seq + to - from + 1
                end
            end
        end
        names = names or {}
        names[#names + 1] = "m:" .. id
        names[#names + 1] = string.format("%d %s", seq, token)
    end
end
