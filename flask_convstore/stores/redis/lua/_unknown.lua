-- _unknown: refuse messages from ARGV[first_element] on with an id that the session has.
for at = first_element, #ARGV do
    local id = string.match(ARGV[at], '^1{"at":%d+,"id":"([^"]+)"')
    local known = id and redis.call("HGET", receipts, "m:" .. id)
    local seq = known and tonumber(string.match(known, "^%d+"))
    if seq then
        --#include _place.lua
        local stored = place and redis.call("LINDEX", history, place)
        if stored and string.match(stored, '^1{"at":%d+,"id":"([^"]+)"') == id then
            return {"known", nonce, id}
        end
    end
end
