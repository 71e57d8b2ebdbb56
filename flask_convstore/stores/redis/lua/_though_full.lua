-- _though_full: let a full server do the writes that follow, since they take something away. Where it has taken the first
-- write of a script, it takes all of them. It takes this one, which changes nothing.
redis.call("HDEL", session, "")
