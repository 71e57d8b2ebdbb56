-- _tell: tell those who follow a session, or its owner's list, of this write. It costs nothing where nobody does. Needs
-- event, version, first_seq and lifetime. A full server may refuse, and the write stays done: hence pcall.
if meta[17] and tonumber(meta[17]) > now then
    local log = session .. ":events"
    if event ~= "delete" then
        local told = redis.pcall("XADD", log, "MAXLEN", 100, version .. "-1", "e", event, "s", first_seq)
        if type(told) == "table" then -- the log of a session before
            redis.pcall("UNLINK", log)
            redis.pcall("XADD", log, version .. "-1", "e", event, "s", first_seq)
        end
        redis.pcall("PEXPIREAT", log, now + lifetime)
    end
    redis.pcall("PUBLISH", session .. ":bell", "")
end
if meta[18] and tonumber(meta[18]) > now and meta[2] then
    local channel = string.match(session, "^[^{]*") .. "owner:" .. meta[2] .. ":bell"
    redis.pcall("PUBLISH", channel, string.format("%s %d %s", event, version, session))
end
