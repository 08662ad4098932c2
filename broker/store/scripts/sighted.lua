-- Note when AEs received entries: the first time stays, the last one moves on.
--   KEYS[1]  prefix
--   ARGV     how many are kept of an order, seconds to keep them, then order, field, when (s) …
if redis.call('EXISTS', KEYS[1] .. 'refuse-writes') == 1 then return 0 end
local most, seconds = tonumber(ARGV[1]), ARGV[2]
for at = 3, #ARGV, 3 do
  local key, field, when = KEYS[1] .. 'sightings:' .. ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local before = redis.call('HGET', key, field)
  if before or redis.call('HLEN', key) < most then
    local first, last = string.match(before or '', '^(%S+) (%S+)$')
    if last and tonumber(last) > tonumber(when) then when = last end
    redis.call('HSET', key, field, (first or when) .. ' ' .. when)
    redis.call('EXPIRE', key, seconds)
  end
end
return #ARGV
