-- _rights: refuse a write before the first command that writes, where this user has lost a right that the write needs behind
-- it. Needs lacks: false, or the name of the command. A right that is looked at costs 0.4 us, so that only commands are that
-- not every write has. RPUSH comes first and HSET can be undone.
if lacks and redis.acl_check_cmd then -- fakeredis has none
    return redis.error_reply("NOPERM This user has no permissions to run " .. lacks .. ". Nothing was written")
end
