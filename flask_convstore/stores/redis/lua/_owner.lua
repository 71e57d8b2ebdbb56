-- _owner: refuse an owner who does not see the session. Needs exists, owner (who asks) and meta[2] (the session's owner).
-- Gives shared: the role "reader" or "writer" in another owner's session, else false.
local shared = false
if exists and owner ~= "*" and owner ~= (meta[2] or "") then
    shared = owner ~= "" and redis.call("HGET", session, "s:" .. string.sub(owner, 2))
    if not shared then
        --#include _missing.lua
    end
end
