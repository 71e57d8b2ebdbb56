-- _unname: forget the ids of messages that were taken out. Needs gone, which _tail.lua gives.
for at = 1, gone and #gone or 0, 4000 do -- in parts: unpack fails at 8,000
    redis.call("HDEL", receipts, unpack(gone, at, math.min(at + 3999, #gone)))
end
