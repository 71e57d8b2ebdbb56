-- _facts: what is told of a session beside its data. Needs title_given ("" as it is, "=text" that, "?text" that unless it has
-- one, "-" none) and usage_given ("" nothing, or "<input> <output>": tokens of a model that these messages cost).
if title_given ~= "" then
    local how = string.sub(title_given, 1, 1)
    if how == "-" then
        redis.call("HDEL", session, "title")
    elseif how == "=" or not title then
        redis.call("HSET", session, "title", string.sub(title_given, 2))
    end
end
if usage_given ~= "" then
    local input, output = string.match(usage_given, "^(%d+) (%d+)$")
    redis.call("HINCRBY", session, "tokens_in", input)
    redis.call("HINCRBY", session, "tokens_out", output)
end
