--[[
salvage: read what is left of a session, whatever has become of its keys. All stays as it is.

KEYS[1..3]  session, history, tokens
ARGV[1]  nonce   echoed in the reply
ARGV[2]  owner   "*" the server asks, "" nobody asks, "=name" that owner asks

Returns  {"ok", nonce, fields, elements}   names and values of the hash, and the messages
         {"missing", nonce}                nothing is left, or it is another owner's, or nobody knows whose it is
         {"moved", nonce, session_id}      another owner's, who shares it. It goes on there
Cost     O(fields + messages)
]]
local session, history, tokens = KEYS[1], KEYS[2], KEYS[3]
local nonce, owner = ARGV[1], ARGV[2]

local function of_kind(key, kind)
    return redis.call("TYPE", key).ok == kind
end
local is_there, has_history = of_kind(session, "hash"), of_kind(history, "list")
local meta = {false, false}
if is_there then
    meta[2] = redis.call("HGET", session, "owner") or ""
elseif of_kind(tokens, "hash") then
    meta[2] = redis.call("HGET", tokens, "owner")
end
-- Where the hash has gone, its tokens know the owner. A session that was deleted has left no messages.
if not (is_there or has_history) or not meta[2] and owner ~= "*" then
    return {"missing", nonce}
end
if owner ~= "*" and owner ~= meta[2] then
    local guest = is_there and owner ~= "" and redis.call("HMGET", session, "s:" .. string.sub(owner, 2), "moved_to") or {}
    if not guest[1] then
        return {"missing", nonce}
    end
    if guest[2] then
        return {"moved", nonce, guest[2]}
    end
end
local fields = is_there and redis.call("HGETALL", session) or {}
return {"ok", nonce, fields, has_history and redis.call("LRANGE", history, 0, -1) or {}}
