-- _due: gives due, which is empty, or, when a minute has passed since, whom to tell of this activity: the owner, for its index,
-- then the aliases that were told to lead here. Needs indexed (milliseconds, the last time). By pcall: a full server may
-- refuse it, and what is done stays done.
local due = {}
if now - (tonumber(indexed) or 0) >= 60000 then
    local marked = redis.pcall("HSET", session, "indexed", now)
    if type(marked) ~= "table" then
        due[1] = meta[2] or ""
        for _, field in ipairs(redis.call("HKEYS", session)) do
            if string.sub(field, 1, 2) == "a:" then
                due[#due + 1] = string.sub(field, 3)
            end
        end
    end
end
