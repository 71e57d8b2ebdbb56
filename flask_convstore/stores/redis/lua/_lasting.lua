-- _lasting: of the receipts that outlive a session keep its creation and the last four.
local lasts, kept = {}, redis.pcall("HGETALL", tokens)
for place = 1, #kept, 2 do
    local number, was = string.match(kept[place + 1], "^(%d+) %d+ (%d+)")
    number, was = tonumber(number), tonumber(was)
    if string.sub(kept[place], 1, 2) == "t:" and number and number > 0 and not (number == 1 and was >= created) then
        lasts[#lasts + 1] = {was, number, kept[place]}
    end
end
table.sort(lasts, function(one, other)
    return one[1] > other[1] or one[1] == other[1] and one[2] > other[2]
end)
for place = 5, #lasts do
    redis.pcall("HDEL", tokens, lasts[place][3])
end
