-- Tells all who listen nothing, which they hear. A replica refuses, because this might write.
-- KEYS: one that doesn't exist
-- ARGV: the channel
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], '')
