-- Lists a session, in the place of what is known of it, and forgets those that lapsed.
-- KEYS: the owner's sessions, each with what is kept of it; the same with the moments when they
--       lapse, in ms
-- ARGV: the session's id and what is kept of it, both as JSON; ms for which it is listed
local kept, lapse = KEYS[1], KEYS[2]
local id, record, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for _, other in ipairs(redis.call('ZRANGEBYSCORE', lapse, '-inf', now)) do
  redis.call('HDEL', kept, other)
  redis.call('ZREM', lapse, other)
end
redis.call('HSET', kept, id, record)
redis.call('ZADD', lapse, now + lease, id)
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < lease then redis.call('PEXPIRE', key, lease) end
end
