-- _key_is_free: refuse a data field under the key of the history. Needs shape and the results of _key.lua and of the fields.
if string.sub(shape, 1, 4) == "full" and not key_is_misused then
    local is_new = exists and shape ~= meta[7]
    key_is_misused = key_is_set or is_new and not key_is_gone and redis.call("HEXISTS", session, "d:" .. key) == 1
end
if key_is_misused then
    return {"history_key", nonce, key}
end
