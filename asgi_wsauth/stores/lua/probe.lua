-- Publishes an empty message, which every listener receives. A replica refuses to, as DEL is a write.
-- KEYS: one that doesn't exist
-- ARGV: the channel
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], '')
