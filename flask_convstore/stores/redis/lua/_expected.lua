-- _expected: refuse a session that is not in the expected state: a version, or "<created>-<version>", or ">" and the token
-- of a write that was done ("" any).
local is_expected = expected == "" or expected == meta[1] or expected == meta[3] .. "-" .. meta[1]
if string.sub(expected, 1, 1) == ">" then
    local before = "t:" .. string.sub(expected, 2)
    is_expected = redis.call("HGET", receipts, before) or redis.call("HGET", tokens, before)
end
if not is_expected then
    return {"conflict", nonce, version, "version"}
end
