-- _due: gives due, a list of those that must be told of this activity: the owner, for its index, then the aliases that
-- were told to lead here. The list is empty until a minute has passed since the last time, or for a write since the last
-- write, which a read may have told of. Needs indexed (milliseconds, the last time) and changed_before (milliseconds, the
-- last write before this one, false: this is none). A full server may refuse the write, and the rest stays done: hence
-- pcall.
local due = {}
if now - (tonumber(indexed) or 0) >= 60000 or changed_before and now - changed_before >= 60000 then
    local marked = redis.pcall("HSET", session, "indexed", now)
    if type(marked) ~= "table" then
        due[1] = meta[2] or ""
        for _, field in ipairs(redis.pcall("HKEYS", session)) do
            if string.sub(field, 1, 2) == "a:" then
                due[#due + 1] = string.sub(field, 3)
            end
        end
    end
end
