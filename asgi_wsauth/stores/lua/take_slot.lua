-- Takes a slot, unless its owner has as many as he may have.
-- KEYS: the owner's slots in their order; the same with the moments when they lapse, in ms;
--       those that were lost to newer ones, with the moments when that may be forgotten
-- ARGV: the slot's name, as JSON; how many the owner may have; 1 if the oldest are to go for it;
--       ms for which it is kept; ms for which those that go are remembered; the channel
-- Returns 1 where it was taken, or was held already: a client asks again if the answer got lost.
local order, lapse, lost = KEYS[1], KEYS[2], KEYS[3]
local name, limit, evict = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local lease, memory, channel = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function live(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end

local function drop(other)
  redis.call('ZREM', order, other)
  redis.call('ZREM', lapse, other)
end

for _, other in ipairs(redis.call('ZRANGEBYSCORE', lapse, '-inf', now)) do drop(other) end
if redis.call('ZSCORE', order, name) then
  evict = false  -- it costs nobody his own
else
  if not evict and redis.call('ZCARD', order) >= limit then return 0 end
  local last = redis.call('ZRANGE', order, -1, -1, 'WITHSCORES')[2]
  redis.call('ZADD', order, (last or 0) + 1, name)
end
redis.call('ZADD', lapse, now + lease, name)
redis.call('ZREM', lost, name)

local over = redis.call('ZCARD', order) - limit
if evict and over > 0 then
  redis.call('ZREMRANGEBYSCORE', lost, '-inf', now)
  for _, other in ipairs(redis.call('ZRANGE', order, 0, over - 1)) do
    drop(other)
    redis.call('ZADD', lost, now + memory, other)
    redis.call('PUBLISH', channel, '["slot",' .. other .. ',0.0]')
  end
  live(lost, memory)
end
live(order, lease)
live(lapse, lease)
return 1
