-- _remember: keep the receipt of this write under its token. Now and then the receipts before the last max_tokens are
-- dropped, which costs a look at all of them (2 ms for 1,000, 20 ms for 10,000). So up to a quarter of max_tokens more
-- may be kept, and however many have come within the time for which any is kept. Where these are many times max_tokens,
-- that look is as many times more seldom. They are numbered by "writes", as the version starts anew after a delete. Needs
-- version, first_seq, created and lifetime as they are now, and history_version as it was before.
local write, most = (tonumber(known[1]) or 0) + 1, tonumber(ARGV[9])
local at = math.max(now, created)
receipt = string.format("%d %d %d %d %d %d %s", version, first_seq, at, history_version,
    math.max(now + lifetime - at, 0), write, ARGV[8])
redis.call("HSET", tokens, "writes", write, "t:" .. token, receipt)
local step = write > most and math.ceil(math.floor(most) / 4)
if step and write % step == 0 and write / step % math.ceil((redis.call("HLEN", tokens) - 2) / most / 2) == 0 then
    local young = now - math.floor(most % 1 * 1000000 + 0.5) * 1000
    local kept = redis.pcall("HGETALL", tokens)
    for at = 1, #kept, 2 do
        local is_receipt, was, number = string.sub(kept[at], 1, 2) == "t:", nil, nil
        if is_receipt then
            was, number = string.match(kept[at + 1], "^%d+ %d+ (%d+) %d+ %d+ (%d+) ")
        end
        if number and tonumber(number) <= write - math.floor(most) and tonumber(was) <= young then
            redis.pcall("HDEL", tokens, kept[at])
        end
    end
end
