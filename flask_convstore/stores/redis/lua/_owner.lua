-- _owner: refuse an owner who does not see the session, and send on a guest of a conversation that was moved, since the
-- session in which it goes on tells who shares it now. Needs exists, owner (who asks) and meta[2] (the session's owner).
-- Gives shared: the role "reader" or "writer" in another owner's session, else false.
local shared = false
if exists and owner ~= "*" and owner ~= (meta[2] or "") then
    local guest = owner ~= "" and redis.call("HMGET", session, "s:" .. string.sub(owner, 2), "moved_to") or {}
    shared = guest[1]
    if not shared then
        --#include _missing.lua
    end
    if guest[2] then
        --#include _call_off.lua
        return {"moved", nonce, guest[2]}
    end
end
