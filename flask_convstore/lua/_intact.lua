-- _intact: refuse a session that is not whole: a hash that is not ours, or a history that was evicted or cut by others.
if not (version and created and first and count and history_version and shape and history_bytes and data_bytes) then
    return {"corrupt", nonce, "session"}
end
if redis.call("LLEN", history) ~= count then
    return {"corrupt", nonce, "history"}
end
