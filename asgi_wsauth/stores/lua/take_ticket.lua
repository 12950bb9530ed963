-- Takes a ticket out. It is kept for whoever took it, who asks again if the answer got lost, until
-- he lets it go.
-- KEYS: the ticket
-- ARGV: the name of this call; ms for which it may be repeated
-- Returns what was kept, for one call only.
local call, kept = ARGV[1], redis.call('GET', KEYS[1])
if not kept then return false end
if string.sub(kept, 1, 1) == '[' then
  local ttl = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[2]))
  redis.call('SET', KEYS[1], call .. kept, 'PX', ttl)
  return kept
end
return string.sub(kept, 1, #call) == call and string.sub(kept, #call + 1)
