-- _mark: put the result of _marked.lua into the history, once the messages of the write are there.
if marked then
    redis.call("LSET", history, mark_index < #pinned and mark_index or mark_index - drop, marked)
    redis.call("HINCRBY", session, "history_bytes", #marked - #unmarked)
end
