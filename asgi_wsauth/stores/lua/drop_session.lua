-- Takes a session off the list.
-- KEYS: as in put_session.lua
-- ARGV: the session's id, as JSON
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
