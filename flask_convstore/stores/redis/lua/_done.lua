-- _done: how every write ends: remember its receipt, move the lifetime, answer. Needs version, first_seq, created,
-- updated, history_version as it was before, own_ttl, complete and indexed.
--#include _lifetime.lua
--#include _remember.lua
redis.call("PEXPIREAT", session, now + lifetime)
--#include _expire_rest.lua
--#include _told.lua
if left_out > 0 then
    return {"ok", nonce, version, first_seq, created, updated, now + lifetime, history_version, due, left_out}
end
return {"ok", nonce, version, first_seq, created, updated, now + lifetime, history_version, due}
