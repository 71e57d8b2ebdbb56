-- _intact: refuse a session that is not whole: a hash that is not ours, or a history that was evicted or cut by others.
--#include _ours.lua
if redis.call("LLEN", history) ~= count then
    return {"corrupt", nonce, "history"}
end
