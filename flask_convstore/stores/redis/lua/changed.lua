--[[
changed: read entries of an owner's index by the last change of their sessions, as far as the index heard of it. An owner
who never asks for this order has no such list. It is made from the index, and made whole where the two differ.

KEYS[1]  index    zset: session ids by their last activity, milliseconds since 1970
KEYS[2]  changed  zset: session ids by their last change, milliseconds since 1970. It lives as long as the index does now
ARGV[1]  nonce    echoed in the reply
ARGV[2]  newest   "1": newest first, "0": oldest first
ARGV[3]  start    the score that the first entry may have, as ZRANGEBYSCORE takes it
ARGV[4]  count    entries, and those within slack of the last one
ARGV[5]  slack    milliseconds: a change is told to the index so much later at most
ARGV[6]  most     entries in all, and those of the same score as the last one

Returns  {"ok", nonce, state, more, {member, score, ...}}   state: "there", or "made" now, or "refused": the list cannot be
             made, as the server takes no writes. more: 1 if other entries follow, else 0
Cost     O(log(sessions of the owner) + most), where a list is made O(sessions of the owner)
]]
local index, changed = KEYS[1], KEYS[2]
local nonce, newest, start, count, slack, most = ARGV[1], ARGV[2] == "1", ARGV[3], ARGV[4] + 0, ARGV[5] + 0, ARGV[6] + 0

local state = "there"
if redis.call("ZCARD", changed) ~= redis.call("ZCARD", index) then
    local made = redis.pcall("ZUNIONSTORE", changed, 2, index, changed, "AGGREGATE", "MIN")
    if type(made) == "table" then
        return {"ok", nonce, "refused", 0, {}}
    end
    redis.call("ZINTERSTORE", changed, 2, changed, index, "WEIGHTS", 1, 0)
    state = "made"
end
redis.pcall("PEXPIRE", changed, math.max(redis.call("PTTL", index), 1))
local command, last = newest and "ZREVRANGEBYSCORE" or "ZRANGEBYSCORE", newest and "-inf" or "+inf"
local found = redis.call(command, changed, start, last, "WITHSCORES", "LIMIT", 0, most + 1)
local all = #found / 2
local shown = math.min(all, most)
for at = count + 1, shown do
    if math.abs(found[2 * at] - found[2 * count]) > slack then
        shown = at - 1
        break
    end
end
local more = shown < all and 1 or 0
if shown == most and more == 1 and found[2 * most] == found[2 * most + 2] then
    -- Entries of one millisecond are never parted.
    local whole = redis.call(command, changed, start, found[2 * most], "WITHSCORES")
    more = #redis.call(command, changed, "(" .. found[2 * most], last, "LIMIT", 0, 1)
    return {"ok", nonce, state, more, whole}
end
return {"ok", nonce, state, more, {unpack(found, 1, 2 * shown)}}
