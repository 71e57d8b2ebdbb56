-- _tokens_of: give the function tokens_of, which reads the tokens that the head of an element tells, and its body. The head is
-- a line of JSON behind a version byte.
local function tokens_of(element)
    local line = string.find(element, "\n", 1, true) or 1
    local head = string.sub(element, 2, line - 1)
    local told, facts = false, nil
    if string.find(head, '"tokens"', 1, true) then
        told, facts = pcall(cjson.decode, head)
    end
    return told and facts.tokens, string.sub(element, line)
end
