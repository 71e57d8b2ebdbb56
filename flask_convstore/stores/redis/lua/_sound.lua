-- _sound: remove keys of another type, which others have put there, so that a session can be replaced or deleted.
for key, kind in pairs({[KEYS[1]] = "hash", [KEYS[2]] = "list", [KEYS[3]] = "hash", [KEYS[1] .. ":receipts"] = "hash"}) do
    local found = redis.call("TYPE", key).ok
    if found ~= kind and found ~= "none" then
        redis.call("UNLINK", key)
    end
end
