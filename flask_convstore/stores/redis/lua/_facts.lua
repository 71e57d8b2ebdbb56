-- _facts: write the title of a session, and the cost of its messages. Needs title_given ("" leaves it, "=text" sets it,
-- "?text" sets it where there is none, "-" removes it) and usage_given ("" nothing, or "<input> <output>" in tokens of a
-- model, below 0 where less was told before).
if title_given ~= "" then
    local how = string.sub(title_given, 1, 1)
    if how == "-" then
        redis.call("HDEL", session, "title")
    elseif how == "=" or not title then
        redis.call("HSET", session, "title", string.sub(title_given, 2))
    end
end
if usage_given ~= "" then
    local input, output = string.match(usage_given, "^(-?%d+) (-?%d+)$")
    redis.call("HINCRBY", session, "tokens_in", input)
    redis.call("HINCRBY", session, "tokens_out", output)
end
