-- _there: refuse where this owner sees no session, where it is past its greatest age, and where its hash is not ours.
-- Needs meta (version, owner, created, updated, then the script's own fields). Gives version,
-- created, updated, and shared as _owner.lua does.
local exists = meta[1] and true or redis.call("EXISTS", session) == 1
if not exists then
    --#include _missing.lua
end
--#include _owner.lua
local version, created, updated = tonumber(meta[1]), tonumber(meta[3]), tonumber(meta[4])
if not (version and created and updated) then
    return {"corrupt", nonce, "session"}
end
if created + MAX_AGE <= now then
    --#include _missing.lua
end
