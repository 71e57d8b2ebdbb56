-- _call_off: call off a read that follows in a transaction: it watches the gate, which is changed here for a moment. No replica
-- and no file hears of that. A full server takes the change behind a first write that it takes, and that changes nothing.
-- Where writes are refused, the read is not called off.
if KEYS[4] then
    if redis.set_repl then -- fakeredis has none
        redis.set_repl(redis.REPL_NONE)
    end
    redis.pcall("DEL", KEYS[4])
    redis.pcall("SET", KEYS[4], "", "PX", 1000)
    redis.pcall("DEL", KEYS[4])
end
