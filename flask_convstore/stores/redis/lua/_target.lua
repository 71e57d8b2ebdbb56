-- _target: find the message that target names, a seq or "=<id>". Gives target_seq and target_place, which is nil or
-- false where there is none.
local target_seq, target_place = tonumber(target), nil
local target_id = string.sub(target, 1, 1) == "=" and string.sub(target, 2)
if target_id then
    local known = redis.call("HGET", receipts, "m:" .. target_id)
    target_seq = tonumber(known and string.match(known, "^%d+") or string.match(target_id, "^msg%-(%d+)$"))
end
if target_seq then
    local seq = target_seq
    --#include _place.lua
    target_place = place
end
if target_place and target_id then
    local own = string.match(redis.call("LINDEX", history, target_place) or "", '^1{"at":%d+,"id":"([^"]+)"')
    target_place = (own or string.format("msg-%d", target_seq)) == target_id and target_place
end
