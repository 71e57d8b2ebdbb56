-- _lifetime: compute the milliseconds that a session lives from now; _expire sets them. Needs own_ttl, complete and created.
local lifetime = tonumber(own_ttl)
if not lifetime or lifetime <= 0 then
    lifetime = tonumber(complete == "true" and TTL_COMPLETE or TTL)
end
lifetime = math.min(lifetime, (created or now) + MAX_AGE - now)
