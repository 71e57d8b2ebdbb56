-- _leave_behind: of the receipts that end with a deleted session keep the last eight that a repeat may still ask for: of
-- young writes, and of clients' own tokens. Another session may take this one's place, and is spared such a repeat then.
local last, kept = {}, redis.pcall("HGETALL", receipts)
for place = 1, #kept, 2 do
    local number, was = string.match(kept[place + 1], "^(%d+) %d+ (%d+)")
    local its_digest = string.match(kept[place + 1], "^%d+ %d+ %d+ %d* %d* (.*)$")
    local is_clients = its_digest and its_digest ~= "" and not string.find(kept[place], "\n", 1, true)
    if string.sub(kept[place], 1, 2) == "t:" and number and (is_clients or tonumber(was) > young) then
        last[#last + 1] = {tonumber(number), kept[place], kept[place + 1]}
    end
end
table.sort(last, function(one, other)
    return one[1] > other[1]
end)
for place = 1, math.min(8, #last) do
    redis.pcall("HSET", tokens, last[place][2], last[place][3])
end
redis.pcall("UNLINK", receipts)
