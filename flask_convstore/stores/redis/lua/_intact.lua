-- _intact: refuse a session that is not whole. Its hash is not ours, or its history was evicted or cut by others.
--#include _ours.lua
if redis.call("LLEN", history) ~= count then
    return {"corrupt", nonce, "history"}
end
