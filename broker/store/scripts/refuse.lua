-- Archive a message that is refused, and list it among those that could not be applied.
--   KEYS[1]  prefix        KEYS[2]  guard key
--   ARGV     digest, how many may be listed, then commands (length, word …) of which the first
--            is the archive's XADD
local prefix, digest = KEYS[1], ARGV[1]
local refused = redis.call('GET', prefix .. 'refuse-writes')
if refused then return {'refused', refused} end
local answer = redis.call('GET', KEYS[2])
if answer then return {'repeat', answer} end

local at, id = 3, nil
while at <= #ARGV do
  local length = tonumber(ARGV[at])
  local reply = redis.call(unpack(ARGV, at + 1, at + length))
  id = id or reply
  at = at + length + 1
end

local list, by_time = prefix .. 'refused', prefix .. 'refused-by-time'
local before = redis.call('HGET', list, digest)
local first = before and string.match(before, '^%S+') or id
redis.call('HSET', list, digest, first .. ' ' .. id)
redis.call('ZADD', by_time, string.match(id, '^%d+'), digest)
while redis.call('ZCARD', by_time) > tonumber(ARGV[2]) do
  redis.call('HDEL', list, redis.call('ZPOPMIN', by_time)[1])
end
return {'committed', id}
