-- Keeps a slot for another lease, or takes it again where it lapsed, or Redis has forgotten it.
-- KEYS: as in take_slot.lua
-- ARGV: the slot's name, as JSON; ms for which it is kept
-- Returns 1 if it was lost to a newer one.
local order, lapse, lost = KEYS[1], KEYS[2], KEYS[3]
local name, lease = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if tonumber(redis.call('ZSCORE', lost, name) or 0) > now then return 1 end
if not redis.call('ZSCORE', order, name) then
  local last = redis.call('ZRANGE', order, -1, -1, 'WITHSCORES')[2]
  redis.call('ZADD', order, (last or 0) + 1, name)
end
redis.call('ZADD', lapse, now + lease, name)
for _, key in ipairs({order, lapse}) do
  if redis.call('PTTL', key) < lease then redis.call('PEXPIRE', key, lease) end
end
return 0
