-- _spent: take out of usage_given what a whole session tells again. The cost of a message that was there before, with the
-- same body, is replaced by the one told now. Needs first_element. The tokens stand in the head of an element, a line of JSON
-- behind a version byte.
local spent = {}
local function tokens_of(element)
    local line = string.find(element, "\n", 1, true) or 1
    local head = string.sub(element, 2, line - 1)
    local told, facts = false, nil
    if string.find(head, '"tokens"', 1, true) then
        told, facts = pcall(cjson.decode, head)
    end
    return told and facts.tokens, string.sub(element, line)
end
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
