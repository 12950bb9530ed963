-- Lists a session for another lease.
-- KEYS: as in put_session.lua
-- ARGV: the session's id, as JSON; ms for which it is listed
-- Returns 1 if it is known: it is put again otherwise.
local kept, lapse = KEYS[1], KEYS[2]
local id, lease = ARGV[1], tonumber(ARGV[2])
if redis.call('HEXISTS', kept, id) == 0 then return 0 end
local time = redis.call('TIME')
redis.call('ZADD', lapse, time[1] * 1000 + math.floor(time[2] / 1000) + lease, id)
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < lease then redis.call('PEXPIRE', key, lease) end
end
return 1
