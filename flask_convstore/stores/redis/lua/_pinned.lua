-- _pinned: collect in pinned the first system messages, which stay where the oldest go: at most three, and so many that the
-- message before those that are added has a place too. Needs drop, added and count.
local most = math.min(3, count - drop, MAX_HISTORY - added - 1)
for _, element in ipairs(most > 0 and redis.call("LRANGE", history, drop, drop + most - 1) or {}) do
    local body = string.sub(element, (string.find(element, "\n", 1, true) or #element) + 1)
    local role = string.match(body, '^{"role":"(%a+)"')
    if not role and (string.find(body, '"system"', 1, true) or string.find(body, '"developer"', 1, true)) then
        local is_json, message = pcall(cjson.decode, body)
        role = is_json and type(message) == "table" and message.role
    end
    if role ~= "system" and role ~= "developer" then
        break
    end
    pinned[#pinned + 1] = element
end
