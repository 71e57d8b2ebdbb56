-- _tail: count what stays where the messages from the place tail on, whose first has the seq tail_seq, give way. Nothing is
-- written yet. Changes count, history_bytes, first and gaps.
if tail < count then
    if redis.call("LLEN", history) ~= count then
        return {"corrupt", nonce, "history"}
    end
    for _, element in ipairs(redis.call("LRANGE", history, tail, -1)) do
        history_bytes = history_bytes - #element
        --#include _gone.lua
    end
    --#include _next_seq.lua
    local gap_from, gap_to = tail_seq, next_seq - 1
    --#include _gap.lua
    count = tail
end
