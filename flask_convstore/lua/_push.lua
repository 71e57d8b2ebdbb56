-- _push: append ARGV[first_element..] to the history, and drop the oldest. In parts: unpack fails at 8,000 elements.
for from = first_element, #ARGV, 4000 do
    redis.call("RPUSH", history, unpack(ARGV, from, math.min(from + 3999, #ARGV)))
end
if drop > 0 then
    redis.call("LTRIM", history, drop, -1)
end
