-- _remember: keep the receipt of this write under its token. Now and then the receipts before the last max_tokens are
-- dropped, and the ids of messages that are gone, which costs a look at all of them (2 ms for 1,000, 20 ms for
-- 10,000). So up to a quarter of max_tokens more may be kept, and however many have come within the time for which any is
-- kept. Where these are many times max_tokens, that look is as many times more seldom. They are numbered by "writes", as the
-- version starts anew after a delete. Needs version, first_seq, created and lifetime as they are now, and history_version as
-- it was before.
local write, most = (tonumber(known[1]) or 0) + 1, tonumber(ARGV[9])
local at = math.max(now, created)
receipt = string.format("%d %d %d %d %d %d %s", version, first_seq, at, history_version,
    math.max(now + lifetime - at, 0), write, ARGV[8])
redis.call("HSET", tokens, "writes", write, "t:" .. token, receipt)
for at = 1, names and #names or 0, 2000 do -- in parts: unpack fails at 8,000
    redis.call("HSET", tokens, unpack(names, at, math.min(at + 1999, #names)))
end
local step = write > most and math.ceil(math.floor(most) / 4)
local is_due = step and write % step == 0
if is_due and most % 1 > 0 then
    is_due = write / step % math.ceil((redis.call("HLEN", tokens) - 2) / most / 2) == 0
end
if is_due then
    local young = now - math.floor(most % 1 * 1000000 + 0.5) * 1000
    local kept = redis.pcall("HGETALL", tokens)
    for at = 1, #kept, 2 do
        local kind, was, number, named = string.sub(kept[at], 1, 2), nil, nil, nil
        if kind == "t:" then
            was, number = string.match(kept[at + 1], "^%d+ %d+ (%d+) %d+ %d+ (%d+) ")
        elseif kind == "m:" then
            named = string.match(kept[at + 1], "^%d+")
        end
        local is_old = number and tonumber(number) <= write - math.floor(most) and tonumber(was) <= young
        local is_gone = named and tonumber(named) < first
        for from, to in string.gmatch(named and gaps or "", "(%d+)%-(%d+)") do
            is_gone = is_gone or tonumber(named) >= tonumber(from) and tonumber(named) <= tonumber(to)
        end
        if is_old or is_gone then
            redis.pcall("HDEL", tokens, kept[at])
        end
    end
end
--#include _tell.lua
