-- _remember: keep the receipt of this write under its token, and drop the oldest token over max_tokens.
-- A ring: "writes" numbers the writes, "#<slot>" names the token kept there. Not the version: it starts anew after a
-- delete. Needs version, first_seq, created and lifetime as
-- they are now, and history_version as it was before.
local write = (tonumber(known[2]) or 0) + 1
local slot = "#" .. write % ARGV[9]
local oldest = write > tonumber(ARGV[9]) and redis.call("HGET", tokens, slot)
receipt = string.format("%.0f %.0f %.0f %.0f %.0f %s", version, first_seq, math.max(now, created), history_version,
    math.max(lifetime, 0), ARGV[8])
redis.call("HSET", tokens, "t:" .. token, receipt, slot, token, "writes", write)
if oldest then
    redis.call("HDEL", tokens, "t:" .. oldest)
end
