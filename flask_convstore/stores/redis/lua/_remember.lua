-- _remember: keep the receipt of this write under its token. Now and then the receipts before the last max_tokens are
-- dropped, and the ids of messages that the head has lost, which costs a look at all of them (2 ms for 1,000, 20 ms for 10,000). So up to a quarter of max_tokens more
-- may be kept. They are numbered by "writes", as the version starts anew after a delete. Needs version, first_seq,
-- created and lifetime as they are now, and history_version as it was before.
local write, most = (tonumber(known[1]) or 0) + 1, tonumber(ARGV[9])
local at = math.max(now, created)
receipt = string.format("%d %d %d %d %d %d %s", version, first_seq, at, history_version,
    math.max(now + lifetime - at, 0), write, ARGV[8])
redis.call("HSET", tokens, "writes", write, "t:" .. token, receipt)
for at = 1, names and #names or 0, 2000 do -- in parts: unpack fails at 8,000
    redis.call("HSET", tokens, unpack(names, at, math.min(at + 1999, #names)))
end
if write > most and write % math.ceil(most / 4) == 0 then
    local kept = redis.call("HGETALL", tokens)
    for at = 1, #kept, 2 do
        local number = string.sub(kept[at], 1, 2) == "t:" and string.match(kept[at + 1], "^%d+ %d+ %d+ %d+ %d+ (%d+) ")
        local named = string.sub(kept[at], 1, 2) == "m:" and string.match(kept[at + 1], "^%d+")
        if number and tonumber(number) <= write - most or named and tonumber(named) < first then
            redis.call("HDEL", tokens, kept[at])
        end
    end
end
