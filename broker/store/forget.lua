-- Remove performed procedure steps that began long ago, with the data sets as received.
--   KEYS[1]  prefix        ARGV  oldest N-CREATE to keep (s), at most so many
local prefix = KEYS[1]
local old = redis.call('ZRANGEBYSCORE', prefix .. 'mpps-by-time', '-inf', '(' .. ARGV[1],
  'LIMIT', 0, ARGV[2])
for _, uid in ipairs(old) do
  redis.call('DEL', prefix .. 'mpps:' .. uid, prefix .. 'mpps-received:' .. uid)
  redis.call('ZREM', prefix .. 'mpps-by-time', uid)
end
return #old
