-- _open: begin a write. All writes include it as text, since shared closures would cost each call.
--
-- KEYS[1]   session  hash
-- KEYS[2]   history  list, oldest first
-- KEYS[3]   tokens   hash, outlives the session: owner, ended, receipts of writes that could bring it back
-- and       receipts hash, ends with the session: receipts of all other writes, ids of messages
-- ARGV[1]   nonce  echoed in the reply
-- ARGV[2]   owner  "*" the server asks, "" nobody asks, "=name" that owner asks
-- ARGV[3]   token  makes the write repeatable, and is never empty
-- ARGV[4]   digest of the request, or "" where the token cannot come with another request
-- owners_only true where this write is not shared with anybody, not even as a repeat
-- lasting     true where this write may create or remove a session, so that its receipt outlives it
local session, history, tokens, receipts = KEYS[1], KEYS[2], KEYS[3], KEYS[1] .. ":receipts"
local nonce, owner, token = ARGV[1], ARGV[2], ARGV[3]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "first", "count", "history_version", "shape",
    "history_bytes", "data_bytes", "ttl", "d:complete", "indexed", "moved_to", "title", "gaps", "updated", "watched", "owner_watched",
    "reply", "streams")
local exists = meta[1] and true or redis.call("EXISTS", session) == 1
local version, created, first, count = tonumber(meta[1]), tonumber(meta[3]), tonumber(meta[4]), tonumber(meta[5])
local history_version, shape = tonumber(meta[6]), meta[7]
local history_bytes, data_bytes = tonumber(meta[8]), tonumber(meta[9])
local own_ttl, complete, indexed, moved_to, title = meta[10], meta[11], meta[12], meta[13], meta[14]
local reply_in_progress, streams = meta[19], meta[20]
local gaps, names, gone = meta[15] or "", nil, nil -- ids of messages that this write adds and takes out, see _name.lua, _gone.lua
local left_out = 0 -- messages that are left out, see _known.lua
-- Nobody repeats a write of before that time, but a client with a token of its own.
local young = now - RECEIPT_MS
local receipt, kept_in = redis.call("HGET", receipts, "t:" .. token), "receipts"
if not receipt and (lasting or ARGV[4] ~= "" or (created or now) > young) then
    receipt, kept_in = redis.call("HGET", tokens, "t:" .. token), "tokens"
end

-- A session past its greatest age does not exist, also before the server has removed it.
local outlived = exists and created and created + MAX_AGE <= now
if outlived then
    exists = false
end
local changed_before = exists and tonumber(meta[16])
--#include _owner.lua
--#include _write.lua
-- An owner does not know the tokens that another owner has left behind here.
if receipt and not exists and owner ~= "*" then
    local whose = redis.call("HMGET", tokens, "owner", "asker")
    receipt = owner == (whose[1] or whose[2] or "") and receipt
end
local gone = not exists
if receipt then
    local at, first_digest = string.match(receipt, "^%d+ %d+ (%d+) %d* %d* (.*)$")
    if not at then
        at, first_digest = string.match(receipt, "^%d+ %d+ (%d+)$"), ""
    end
    if not at then
        return {"corrupt", nonce, kept_in}
    end
    if first_digest ~= ARGV[4] then
        return {"reused", nonce}
    end
    -- The receipt of a write to a predecessor of this session, which was deleted or has expired.
    gone = gone or created and tonumber(at) < created
end
