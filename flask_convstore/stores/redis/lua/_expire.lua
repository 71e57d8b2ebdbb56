-- _expire: move the one lifetime of a session's keys. The tombstone lives longer. All get one point in time, since in Redis
-- 7.0 the clock goes on while a script runs, and two PEXPIRE can end a millisecond apart.
redis.call("PEXPIREAT", session, now + lifetime)
--#include _expire_rest.lua
--#include _expire_tokens.lua
