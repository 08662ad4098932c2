-- What a person decides of messages that wait, and of dead letters; and what time decides.
--   KEYS[1]  prefix        ARGV  verb, then what the verb needs
local prefix, verb = KEYS[1], ARGV[1]
local letters, by_time = prefix .. 'dead-letters', prefix .. 'dead-letters-by-time'

local function first_line(raw)
  return string.match(raw or '', '^[^\n]*')
end

local function forget(id, to, box)
  redis.call('HDEL', letters, id)
  redis.call('ZREM', by_time, id)
  redis.call('HDEL', prefix .. 'parked:' .. to .. ':' .. box, id)
  if redis.call('HGET', prefix .. 'holding:' .. to, box) == id then
    redis.call('HDEL', prefix .. 'holding:' .. to, box)
  end
end

-- Due from now on, unless a refused message still holds what comes after it.
local function due(to, box, now)
  local dirty = prefix .. 'dirty:' .. to
  if redis.call('HEXISTS', prefix .. 'holding:' .. to, box) == 1 then
    redis.call('ZADD', dirty, '+inf', box)
  elseif redis.call('EXISTS', prefix .. 'outbox:' .. to .. ':' .. box) == 0 then
    redis.call('ZREM', dirty, box)
    redis.call('HDEL', prefix .. 'troubles:' .. to, box)
  else
    redis.call('ZADD', dirty, now, box)
    redis.call('RPUSH', prefix .. 'wake', to)
    redis.call('LTRIM', prefix .. 'wake', -1000, -1)
  end
end

if verb == 'replay' then
  -- destination, mailbox, now (ms), then (ID, message as it shall go) each, the oldest first
  local to, box, again = ARGV[2], ARGV[3], 0
  local outbox = prefix .. 'outbox:' .. to .. ':' .. box
  local sending = redis.call('EXISTS', prefix .. 'lease:' .. to .. ':' .. box) == 1
  local first = sending and redis.call('LPOP', outbox) -- on its way: it stays the first
  for n = #ARGV - 1, 5, -2 do
    if redis.call('HEXISTS', letters, ARGV[n]) == 1 then
      forget(ARGV[n], to, box)
      redis.call('LPUSH', outbox, ARGV[n + 1])
      again = again + 1
    end
  end
  if first then redis.call('LPUSH', outbox, first) end
  due(to, box, ARGV[4])
  return again
end

if verb == 'drop' then -- destination, mailbox, now (ms), IDs
  local gone = 0
  for n = 5, #ARGV do
    gone = gone + redis.call('HEXISTS', letters, ARGV[n])
    forget(ARGV[n], ARGV[2], ARGV[3])
  end
  due(ARGV[2], ARGV[3], ARGV[4])
  return gone
end

if verb == 'withdraw' then -- destination, mailbox, now (ms), ID
  local to, box, gone = ARGV[2], ARGV[3], 0
  local outbox = prefix .. 'outbox:' .. to .. ':' .. box
  local sending = redis.call('EXISTS', prefix .. 'lease:' .. to .. ':' .. box) == 1
  for n, waiting in ipairs(redis.call('LRANGE', outbox, 0, -1)) do
    local read, event = pcall(cjson.decode, first_line(waiting))
    if read and event.control_id == ARGV[5] then
      if sending and n == 1 then return -1 end
      gone = redis.call('LREM', outbox, 1, waiting)
      break
    end
  end
  due(to, box, ARGV[4])
  return gone
end

if verb == 'hurry' then -- destination, now (ms), mailbox or '' for all
  local to, dirty, hurried = ARGV[2], prefix .. 'dirty:' .. ARGV[2], 0
  local late = redis.call('ZRANGEBYSCORE', dirty, '(' .. ARGV[3], '(+inf')
  for _, box in ipairs(late) do
    if ARGV[4] == '' or ARGV[4] == box then
      redis.call('ZADD', dirty, ARGV[3], box)
      hurried = hurried + 1
    end
  end
  if redis.call('ZCARD', dirty) > 0 then redis.call('RPUSH', prefix .. 'wake', to) end
  return hurried
end

if verb == 'expire' then -- before (ms), how many at most
  local old = redis.call('ZRANGEBYSCORE', by_time, '-inf', '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])
  for _, id in ipairs(old) do
    local read, letter = pcall(cjson.decode, first_line(redis.call('HGET', letters, id) or nil))
    if read then forget(id, letter.ris, letter.order) end
    redis.call('HDEL', letters, id)
    redis.call('ZREM', by_time, id)
  end
  return #old
end

-- adopt: what an earlier version has parked lies in a stream
local found = redis.call('XRANGE', prefix .. 'dead', '-', '+', 'COUNT', 500)
for _, entry in ipairs(found) do
  local read, letter = pcall(cjson.decode, entry[2][2])
  if read then
    redis.call('HSET', letters, letter.control_id, entry[2][2])
    redis.call('ZADD', by_time, math.floor(letter.parked * 1000), letter.control_id)
    redis.call('HSET', prefix .. 'parked:' .. letter.ris .. ':' .. letter.order, letter.control_id, letter.created)
  end
  redis.call('XDEL', prefix .. 'dead', entry[1])
end
if #found < 500 then redis.call('DEL', prefix .. 'dead') end
return #found
