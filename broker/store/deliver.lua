-- What a worker may do with a mailbox: take it, and the rest only while it holds the lease.
--   KEYS[1]  prefix        ARGV  verb, destination, mailbox, token, then what the verb needs
local prefix, verb, to = KEYS[1], ARGV[1], ARGV[2]
local box, token, lease, outbox, parked

local function turn_to(mailbox, with)
  box, token = mailbox, with
  lease = prefix .. 'lease:' .. to .. ':' .. box
  outbox = prefix .. 'outbox:' .. to .. ':' .. box
  parked = prefix .. 'parked:' .. to .. ':' .. box
end
turn_to(ARGV[3], ARGV[4])
local dirty, troubles = prefix .. 'dirty:' .. to, prefix .. 'troubles:' .. to
local letters, by_time = prefix .. 'dead-letters', prefix .. 'dead-letters-by-time'

-- A message lies as two lines, of which only the first is for whoever sends it.
local function first_line(raw)
  return string.match(raw or '', '^[^\n]*')
end

local function forget(id)
  local read, letter = pcall(cjson.decode, first_line(redis.call('HGET', letters, id) or nil))
  redis.call('HDEL', letters, id)
  if read and letter.ris then redis.call('HDEL', prefix .. 'parked:' .. letter.ris .. ':' .. letter.order, id) end
end

local function park(id, letter, created, at, most)
  redis.call('HSET', letters, id, letter)
  redis.call('HSET', parked, id, created)
  redis.call('ZADD', by_time, at, id)
  while redis.call('ZCARD', by_time) > most do forget(redis.call('ZPOPMIN', by_time)[1]) end
end

-- What nobody can read would stop the mailbox for ever: it goes where people see it.
local function bury(raw)
  local hex = string.gsub(string.sub(raw, 1, 4096), '.', function(c) return string.format('%02x', string.byte(c)) end)
  local id = 'DAMAGED-' .. string.upper(string.sub(redis.sha1hex(raw), 1, 12))
  local now = tonumber(redis.call('TIME')[1])
  local letter = {ris = to, order = box, control_id = id, created = now, parked = now,
    cause = 'unreadable', damaged = hex}
  park(id, cjson.encode(letter), now, now * 1000, 100000)
end

-- The next message; after the last one the mailbox is nobody's, and no longer dirty.
local function following()
  if redis.call('HEXISTS', prefix .. 'paused', to) == 1 then
    redis.call('DEL', lease)
    return false
  end
  while true do
    local head = redis.call('LINDEX', outbox, 0)
    if not head then
      redis.call('ZREM', dirty, box)
      redis.call('DEL', lease)
      return false
    end
    local first = first_line(head)
    local read, event = pcall(cjson.decode, first)
    if read and type(event) == 'table' and type(event.control_id) == 'string'
      and type(event.payload) == 'string' and type(event.created) == 'number' then return first end
    redis.call('LPOP', outbox)
    bury(head)
  end
end

local function take(ttl, now)
  local due = redis.call('ZSCORE', dirty, box)
  if redis.call('EXISTS', lease) == 1 or due == 'inf' then return false end
  if due and now ~= '' and tonumber(due) > tonumber(now) then return false end
  redis.call('DEL', lease) -- a full Redis lets only this be the first write: delivery frees space
  if not redis.call('SET', lease, token, 'NX', 'PX', ttl) then return false end
  local head = following()
  return head and {head, redis.call('HGET', troubles, box) or ''}
end

if verb == 'take' then return take(ARGV[5], ARGV[6]) end

if redis.call('GET', lease) ~= token then return false end

if verb == 'renew' then
  redis.call('PEXPIRE', lease, ARGV[5])
  return 1
end
if verb == 'bury' then -- the head, which whoever took it cannot read either
  local head = redis.call('LPOP', outbox)
  redis.call('HDEL', troubles, box)
  redis.call('DEL', lease)
  if head then bury(head) end
  return 1
end
if verb == 'note' then
  redis.call('HSET', troubles, box, ARGV[5])
  return 1
end
if verb == 'pop' or verb == 'park' or verb == 'hold' then
  local head = redis.call('LINDEX', outbox, 0)
  local read, event = pcall(cjson.decode, first_line(head or nil))
  if not read or event.control_id ~= ARGV[5] then return false end
  redis.call('LPOP', outbox)
  redis.call('HDEL', troubles, box)
  if ARGV[6] ~= '' and redis.call('EXISTS', prefix .. 'refuse-writes') == 0 then
    local sent = prefix .. 'sent:' .. box
    redis.call('RPUSH', sent, ARGV[6])
    redis.call('LTRIM', sent, -64, -1)
    redis.call('EXPIRE', sent, ARGV[7])
  end
  if verb == 'pop' and redis.call('EXISTS', parked) == 1 then
    local ours = redis.call('HGETALL', parked)
    for n = 1, #ours, 2 do -- what was parked before is older than what the destination knows now
      local created = tonumber(ours[n + 1])
      if created and created < event.created then
        redis.call('HSET', parked, ours[n], 'overtaken by ' .. event.control_id)
      end
    end
  elseif verb == 'park' then
    park(ARGV[5], ARGV[8] .. '\n' .. head, ARGV[9], ARGV[10], tonumber(ARGV[11]))
  elseif verb == 'hold' then -- never due: nothing of the mailbox goes before a person has decided
    redis.call('HSET', letters, ARGV[5], ARGV[8] .. '\n' .. head)
    redis.call('HSET', parked, ARGV[5], ARGV[9])
    redis.call('HSET', prefix .. 'holding:' .. to, box, ARGV[5])
    redis.call('ZADD', dirty, '+inf', box)
    redis.call('DEL', lease)
    return 1
  end
  local head = following()
  if head or verb ~= 'pop' or ARGV[8] == '' then return {head} end
  turn_to(ARGV[8], ARGV[9]) -- this one is done with: whose turn is next, to save the way
  return {false, take(ARGV[10], ARGV[11])}
end

-- release, postpone: it is somebody else's turn, or a later time's
redis.call('DEL', lease)
if redis.call('EXISTS', outbox) == 0 then
  redis.call('ZREM', dirty, box)
  redis.call('HDEL', troubles, box)
elseif verb == 'postpone' then
  redis.call('ZADD', dirty, ARGV[5], box)
  redis.call('HSET', troubles, box, ARGV[6])
end
return 1
