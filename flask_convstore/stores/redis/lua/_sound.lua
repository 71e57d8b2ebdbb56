-- _sound: remove keys of another type, which others have put there, so that a session can be replaced or deleted.
for at, kind in ipairs({"hash", "list", "hash"}) do
    local found = redis.call("TYPE", KEYS[at]).ok
    if found ~= kind and found ~= "none" then
        redis.call("UNLINK", KEYS[at])
    end
end
