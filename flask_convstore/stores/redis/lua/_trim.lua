-- _trim: take the oldest messages out of the list, all that go but the pinned ones, which keep their places.
redis.call("LTRIM", history, drop, -1)
for at = 1, #pinned do
    redis.call("LSET", history, at - 1, pinned[at])
end
