-- Keeps a revocation in the place of the one that is known, and tells of it; or forgets that one.
-- KEYS: the subject's revocation
-- ARGV: until when it is revoked; ms after which that is forgotten, or 0; the channel; the message
if tonumber(ARGV[2]) == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
