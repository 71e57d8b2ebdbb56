-- _late: refuse a write that was begun before the content was replaced. Needs loaded (the version that the writer knows, ""
-- any) and adds (it brings messages. Else the replaced fields count only).
if loaded ~= "" then
    local replaced = redis.call("HMGET", session, "replaced", "history_replaced")
    if tonumber(loaded) < tonumber(replaced[1] or 0) or adds and tonumber(loaded) < tonumber(replaced[2] or 0) then
        return {"missing", nonce}
    end
end
