-- _owner: refuse whom the session is not for. Needs exists, owner and meta[2], whose it is. Gives shared: "reader" or
-- "writer" where it is another owner's, who shares it; else false.
local shared = false
if exists and owner ~= "*" and owner ~= (meta[2] or "") then
    shared = owner ~= "" and redis.call("HGET", session, "s:" .. string.sub(owner, 2))
    if not shared then
        return {"missing", nonce}
    end
end
