-- _propagate: write without a change, where another call has written all. WAIT waits for what its own connection has
-- written last (since Redis 7.2), and this comes behind what others wrote. The tombstone's lifetime stays what it is.
local left = redis.call("PTTL", tokens)
if left > 0 then
    redis.call("PEXPIREAT", tokens, now + left)
end
