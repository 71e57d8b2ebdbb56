--[[
feed_reply: add parts of a reply to its stream, once, and keep the turn. Without parts the turn is kept only.

KEYS[1..3]  session, history, tokens
ARGV[1..2]  as in touch.lua
ARGV[3]     turn    the attempt that has the turn
ARGV[4]     lease   milliseconds the turn is ours from now, without another call
ARGV[5]     reply   id of the reply, which names the stream
ARGV[6]     epoch   number of the attempt, a part of the ids in the stream
ARGV[7]     first   number of the first part given
ARGV[8..]   part    opaque

Returns  {"ok", nonce, version, created, updated, expires, lifetime, due, last}   last: number of the newest part in the
             stream. Below first - 1 parts before are missing there, and none was added. due is empty
         {"missing", nonce}   no such session for this owner
         {"moved", nonce, session_id} another owner's, who shares it. It goes on there
         {"forbidden", nonce} another owner shares it, and it may be read only
         {"lost", nonce}      the turn has ended, or another one has taken over
         {"corrupt", nonce, "session"}   the hash is not ours
Cost     O(parts given)

A session keeps the streams of its last four replies.
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner = ARGV[1], ARGV[2]

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call("HMGET", session, "version", "owner", "created", "updated", "ttl", "d:complete", "turn", "streams")
--#include _there.lua
local owners_only = false
--#include _write.lua
if meta[7] ~= ARGV[3] then
    return {"lost", nonce}
end
local own_ttl, complete = meta[5], meta[6]
local reply, epoch, first_number, stored = ARGV[5], ARGV[6], tonumber(ARGV[7]), ""
local first_part, last_part = 8, #ARGV
--#include _stream_end.lua
local begins = last == 0 and first_number == 1 and last_part >= first_part
redis.call("HSET", session, "turn_until", now + ARGV[4])
--#include _lifetime.lua
--#include _expire.lua
if last >= first_number - 1 and last_part >= first_part then
    --#include _feed.lua
end
redis.call("PEXPIREAT", stream, now + lifetime)
if begins then
    local streams = meta[8]
    redis.call("HSET", session, "reply", reply)
    --#include _name_stream.lua
end
return {"ok", nonce, version, created, updated, now + lifetime, lifetime, {}, last}
