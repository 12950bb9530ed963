-- Notes how a session was ended, if it wasn't before, and tells of it. Its list may be in another
-- hash slot.
-- KEYS: how it was ended
-- ARGV: the same, as JSON; ms after which that may be forgotten; the channel; the message
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
