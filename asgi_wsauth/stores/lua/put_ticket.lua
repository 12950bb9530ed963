-- Notes a ticket as one of its owner's.
-- KEYS: the owner's tickets in their order; the same with the moments when they are gone, in ms
-- ARGV: the ticket's own key; how many the owner may have; ms after which the ticket is gone
-- Returns the keys of the oldest ones that are past the limit. Those keys are in other hash slots,
-- so it is the caller who makes them go; until he has, each call returns them.
local order, gone = KEYS[1], KEYS[2]
local ticket, limit, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for _, other in ipairs(redis.call('ZRANGEBYSCORE', gone, '-inf', now)) do
  redis.call('ZREM', order, other)
  redis.call('ZREM', gone, other)
end
local last = redis.call('ZRANGE', order, -1, -1, 'WITHSCORES')[2]
redis.call('ZADD', order, (last or 0) + 1, ticket)
redis.call('ZADD', gone, now + ttl, ticket)
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end
local over = redis.call('ZCARD', order) - limit
return over > 0 and redis.call('ZRANGE', order, 0, over - 1) or {}
