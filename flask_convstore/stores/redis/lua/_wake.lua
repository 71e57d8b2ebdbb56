-- _wake: tell the first in line that the turn is free. Each waits at a list of its own, which ends by itself. Needs standing.
for who, ends in string.gmatch(standing or "", "(%S+) (%d+)") do
    if tonumber(ends) > now then
        redis.pcall("LPUSH", session .. ":wake:" .. who, "")
        redis.pcall("PEXPIRE", session .. ":wake:" .. who, 5000)
        break
    end
end
