-- What a clock has set that was ahead: tries further away than any pause are due now, and leases
-- that last longer than any are nobody's. Of leases the mailboxes that wait longest are looked at.
--   KEYS[1]  prefix        ARGV  destination, now (ms), longest pause (ms), longest lease (ms)
local dirty = KEYS[1] .. 'dirty:' .. ARGV[1]
local late = redis.call('ZRANGEBYSCORE', dirty, '(' .. (ARGV[2] + ARGV[3]), '(+inf', 'LIMIT', 0, 1000)
for _, box in ipairs(late) do redis.call('ZADD', dirty, ARGV[2], box) end
local freed = 0
for _, box in ipairs(redis.call('ZRANGE', dirty, 0, 99)) do
  local lease = KEYS[1] .. 'lease:' .. ARGV[1] .. ':' .. box
  if redis.call('PTTL', lease) > tonumber(ARGV[4]) then freed = freed + redis.call('DEL', lease) end
end
return #late + freed
