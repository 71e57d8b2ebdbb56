-- _remember: keep the receipt of this write under its token, as "version first_seq at versions lifetime digest". Versions: how
-- many the last change of the history lies back, as it was before, "" for one. The lifetime is "" where it is that of most
-- sessions. Where the last three are "", the receipt ends with at.
-- A receipt ends with the session. Those of writes that may bring a session back outlive it: of its creation, of the last
-- four that may create one, and of its end. Needs version, first_seq, created and lifetime as they are now, and
-- history_version as it was before.
--
-- Now and then the receipts before the last MAX_TOKENS are dropped, and the ids of messages that are gone, which costs a look
-- at all of them (2 ms for 1,000, 20 ms for 10,000). So up to a quarter of MAX_TOKENS more may be kept, and however many have
-- come within the time for which any is kept. Where these are many times MAX_TOKENS, that look is as many times more seldom.
local at = math.max(now, created)
local left = math.max(now + lifetime - at, 0)
receipt = string.format("%d %d %d", version, first_seq, at)
if version - history_version ~= 1 or left ~= TTL or ARGV[4] ~= "" then
    receipt = string.format("%s %s %s %s", receipt, version - history_version == 1 and "" or version - history_version,
        left == TTL and "" or string.format("%d", left), ARGV[4])
end
local is_end = event == "delete"
if exists and not is_end then
    redis.call("HSET", receipts, "t:" .. token, receipt)
end
if lasting then
    redis.call("HSET", tokens, "t:" .. token, receipt)
end
for from = 1, names and #names or 0, 2000 do -- in parts: unpack fails at 8,000
    redis.call("HSET", receipts, unpack(names, from, math.min(from + 1999, #names)))
end
local step = not is_end and version > MAX_TOKENS and math.ceil(MAX_TOKENS / 4)
local is_due = step and version % step == 0
if is_due and RECEIPT_MS > 0 then
    is_due = version / step % math.ceil(redis.call("HLEN", receipts) / MAX_TOKENS / 2) == 0
end
if is_due then
    for _, key in ipairs({receipts, tokens}) do
        local kept, dropped = redis.pcall("HGETALL", key), {}
        for place = 1, #kept, 2 do
            local name, held = kept[place], kept[place + 1]
            local kind = string.byte(name, 2) == 58 and string.byte(name) -- a colon behind "t", 116, or "m", 109
            local number = (kind == 116 or kind == 109) and tonumber(string.match(held, "^%d+"))
            local is_dropped = false
            if number and kind == 116 and number <= version - MAX_TOKENS then
                local was = tonumber(string.match(held, "^%d+ %d+ (%d+)"))
                is_dropped = was and was <= young
            elseif number and kind == 109 then
                is_dropped = number < first
                for from, to in string.gmatch(gaps, "(%d+)%-(%d+)") do
                    is_dropped = is_dropped or number >= tonumber(from) and number <= tonumber(to)
                end
            end
            if is_dropped then
                dropped[#dropped + 1] = name
            end
        end
        for from = 1, #dropped, 4000 do -- in parts: unpack fails at 8,000
            redis.pcall("HDEL", key, unpack(dropped, from, math.min(from + 3999, #dropped)))
        end
    end
end
if lasting and exists and not is_end then
    --#include _lasting.lua
end
--#include _tell.lua
