-- Remember the last query of an AE of each kind; the kind that was asked longest ago gives way.
--   KEYS[1]  prefix
--   ARGV     AE, how many kinds, seconds to keep them, then kind, when (s), query …
if redis.call('EXISTS', KEYS[1] .. 'refuse-writes') == 1 then return 0 end
-- An AE that was forgotten, because too many others called, leaves no query behind.
if redis.call('HEXISTS', KEYS[1] .. 'aes', ARGV[1]) == 0 then return 0 end
local key = KEYS[1] .. 'asked:' .. ARGV[1]

local function oldest()
  local found, least
  local held = redis.call('HGETALL', key)
  for at = 1, #held, 2 do
    local when = tonumber(string.match(held[at + 1], '^%S+'))
    if not least or when < least then found, least = held[at], when end
  end
  return found
end

for at = 4, #ARGV, 3 do
  local before = redis.call('HGET', key, ARGV[at])
  if not before or tonumber(string.match(before, '^%S+')) <= tonumber(ARGV[at + 1]) then
    redis.call('HSET', key, ARGV[at], ARGV[at + 1] .. ' ' .. ARGV[at + 2])
  end
end
while redis.call('HLEN', key) > tonumber(ARGV[2]) do redis.call('HDEL', key, oldest()) end
redis.call('EXPIRE', key, ARGV[3])
return redis.call('HLEN', key)
