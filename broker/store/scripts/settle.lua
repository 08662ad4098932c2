-- Take a message off the list of those that could not be applied.
--   KEYS[1]  prefix        ARGV  digest
redis.call('ZREM', KEYS[1] .. 'refused-by-time', ARGV[1])
return redis.call('HDEL', KEYS[1] .. 'refused', ARGV[1])
