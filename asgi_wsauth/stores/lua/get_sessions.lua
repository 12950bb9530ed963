-- KEYS: as in put_session.lua
-- Returns the ids of an owner's sessions that have not lapsed, and what is kept of them.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')
local records = {}
for number, id in ipairs(ids) do records[number] = redis.call('HGET', KEYS[1], id) end
return {ids, records}
