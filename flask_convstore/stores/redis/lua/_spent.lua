-- _spent: take out of usage_given what a whole session tells again. The cost of a message that was there before, with the
-- same body, is replaced by the one told now. Needs first_element.
local spent = {}
--#include _tokens_of.lua
for _, element in ipairs(redis.call("LRANGE", history, 0, -1)) do
    local tokens, body = tokens_of(element)
    if tokens then
        spent[body] = spent[body] or {}
        table.insert(spent[body], tokens)
    end
end
local input, output = string.match(usage_given, "^(%d+) (%d+)$")
for at = first_element, #ARGV do
    local tokens, body = tokens_of(ARGV[at])
    local before = tokens and spent[body] and table.remove(spent[body], 1)
    if before then
        input, output = input - before[1], output - before[2]
    end
end
usage_given = string.format("%d %d", input, output)
