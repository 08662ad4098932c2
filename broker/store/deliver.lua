-- What a worker may do with an order: take it, and the rest only while it holds the lease.
--   KEYS[1]  prefix        ARGV  verb, ris, order, token, then what the verb needs
local prefix, verb, ris, order, token = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lease = prefix .. 'lease:' .. ris .. ':' .. order
local outbox = prefix .. 'outbox:' .. ris .. ':' .. order
local dirty = prefix .. 'dirty:' .. ris

-- The next event; after the last one the order is nobody's, and no longer dirty.
local function following()
  local head = redis.call('LINDEX', outbox, 0)
  if not head then redis.call('ZREM', dirty, order) redis.call('DEL', lease) end
  return head
end

if verb == 'take' then
  if redis.call('EXISTS', lease) == 1 then return false end
  redis.call('DEL', lease) -- a full Redis lets only this be the first write: delivery frees space
  if not redis.call('SET', lease, token, 'NX', 'PX', ARGV[5]) then return false end
  return following()
end

if redis.call('GET', lease) ~= token then return false end

if verb == 'renew' then
  redis.call('PEXPIRE', lease, ARGV[5])
  return 1
end
if verb == 'pop' or verb == 'park' or verb == 'hold' then
  local head = redis.call('LINDEX', outbox, 0)
  if not head or cjson.decode(head).control_id ~= ARGV[5] then return false end
  if verb ~= 'pop' then
    redis.call('XADD', prefix .. 'dead', 'MAXLEN', '~', ARGV[7], '*', 'letter', ARGV[6])
  end
  if verb ~= 'hold' then
    redis.call('LPOP', outbox)
    return {following()}
  end
end

-- release, postpone, hold: it is somebody else's turn, or a later time's
redis.call('DEL', lease)
if redis.call('EXISTS', outbox) == 0 then
  redis.call('ZREM', dirty, order)
elseif verb == 'postpone' then
  redis.call('ZADD', dirty, ARGV[5], order)
elseif verb == 'hold' then
  redis.call('ZADD', dirty, ARGV[8], order)
end
return 1
