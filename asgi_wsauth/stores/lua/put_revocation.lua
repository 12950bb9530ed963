-- Keeps the later of two revocations, for the longer of their times, and tells of the new one.
-- KEYS: the subject's revocation
-- ARGV: until when it is revoked; ms after which that may be forgotten; the channel; the message
local known = redis.call('GET', KEYS[1])
local later = known and tonumber(known) > tonumber(ARGV[1]) and known or ARGV[1]
local ttl = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[2]))
redis.call('SET', KEYS[1], later, 'PX', ttl)
redis.call('PUBLISH', ARGV[3], ARGV[4])
