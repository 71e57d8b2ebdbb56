-- _begin: how every write begins. Included as text: shared closures would cost each call.
--
-- KEYS[1]  session  hash
-- KEYS[2]  history  list, oldest first
-- KEYS[3]  tokens   hash, outlives the session
-- ARGV[1]  nonce          echoed in the reply
-- ARGV[2]  owner          "*" anyone's, "" nobody's, "=name" that owner's
-- ARGV[3]  ttl            milliseconds a session lives from now
-- ARGV[4]  ttl_complete   the same once its field "complete" is true
-- ARGV[5]  tombstone      milliseconds the tokens outlive the session
-- ARGV[6]  token          makes the write repeatable; never empty
-- ARGV[7]  digest         of the request, or "" where the token cannot come with another one
-- ARGV[8]  max_tokens     how many tokens are kept
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner, token = ARGV[1], ARGV[2], ARGV[6]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "first", "count", "history_version", "shape", "ttl", "d:complete")
local known = redis.call("HMGET", tokens, "t:" .. token, "writes", "owner")
local exists = meta[1] and true or redis.call("EXISTS", session) == 1
local version, created, first, count = tonumber(meta[1]), tonumber(meta[3]), tonumber(meta[4]), tonumber(meta[5])
local history_version, shape, own_ttl, complete = tonumber(meta[6]), meta[7], meta[8], meta[9]
local receipt, tokens_owner = known[1], known[3] or ""

if exists and owner ~= "*" and owner ~= (meta[2] or "") then
    return {"missing", nonce}
end
-- What another owner left behind here is not known to this one.
if receipt and not exists and owner ~= "*" and owner ~= tokens_owner then
    receipt = false
end
if receipt and not exists then
    return {"repeated", nonce, receipt, 0, 0, 0}
end
if receipt then
    --#include _lifetime.lua
    --#include _expire.lua
    return {"repeated", nonce, receipt, created or 0, now, now + lifetime}
end
