-- KEYS: as in put_session.lua
-- Returns the ids of an owner's sessions that have not lapsed.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')
