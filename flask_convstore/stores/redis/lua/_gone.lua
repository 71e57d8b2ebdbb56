-- _gone: note that element is taken out, whose id is forgotten then.
local gone_id = string.match(element, '^1{"at":%d+,"id":"([^"]+)"')
if gone_id then
    gone = gone or {}
    gone[#gone + 1] = "m:" .. gone_id
end
