-- _expected: refuse a session that is not in the expected state: a version, or "<created>-<version>" ("" any).
if expected ~= "" and expected ~= meta[1] and expected ~= meta[3] .. "-" .. meta[1] then
    return {"conflict", nonce, version, "version"}
end
