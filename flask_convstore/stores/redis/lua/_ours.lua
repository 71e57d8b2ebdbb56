-- _ours: refuse a session whose hash is not ours.
if not (version and created and first and count and history_version and shape and history_bytes and data_bytes) then
    return {"corrupt", nonce, "session"}
end
