-- What a worker may do with mailboxes: take them, and the rest only while it holds their leases.
--   KEYS[1]  prefix        ARGV  verb, destination, token, then what the verb needs
local prefix, verb, to, token = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local box, lease, outbox, parked

local function turn_to(mailbox)
  box = mailbox
  lease = prefix .. 'lease:' .. to .. ':' .. box
  outbox = prefix .. 'outbox:' .. to .. ':' .. box
  parked = prefix .. 'parked:' .. to .. ':' .. box
end
local dirty, troubles = prefix .. 'dirty:' .. to, prefix .. 'troubles:' .. to
local letters, by_time = prefix .. 'dead-letters', prefix .. 'dead-letters-by-time'
local paused = redis.call('HEXISTS', prefix .. 'paused', to) == 1

-- A message lies as two lines, of which only the first is for whoever sends it.
local function first_line(raw)
  local ends = raw and string.find(raw, '\n', 1, true)
  return ends and string.sub(raw, 1, ends - 1) or raw or ''
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
  local head = not paused and redis.call('LINDEX', outbox, 0)
  if head then return first_line(head) end
  if not paused then redis.call('ZREM', dirty, box) end
  redis.call('DEL', lease)
  return false
end

local function take(ttl, now)
  local due = redis.call('ZSCORE', dirty, box)
  if redis.call('EXISTS', lease) == 1 or due == 'inf' then return false end
  if due and now ~= '' and tonumber(due) > tonumber(now) then return false end
  redis.call('DEL', lease) -- a full Redis lets only this be the first write: delivery frees space
  redis.call('SET', lease, token, 'PX', ttl)
  local head = following()
  return head and {head, redis.call('HGET', troubles, box) or ''}
end

-- Remove the head, if it is ours and this one; gives all of it.
local function removed(id, told, keep_s)
  if redis.call('GET', lease) ~= token then return false end
  local head = redis.call('LINDEX', outbox, 0)
  if not head then return false end
  if not string.find(first_line(head), '"control_id":"' .. id .. '"', 1, true) then
    local read, event = pcall(cjson.decode, first_line(head)) -- an earlier version wrote it otherwise
    if not read or event.control_id ~= id then return false end
  end
  redis.call('LPOP', outbox)
  redis.call('HDEL', troubles, box)
  if told ~= '' and redis.call('EXISTS', prefix .. 'refuse-writes') == 0 then
    local sent = prefix .. 'sent:' .. box
    if redis.call('RPUSH', sent, told) > 64 then redis.call('LTRIM', sent, -64, -1) end
    redis.call('EXPIRE', sent, keep_s)
  end
  return head
end

-- What was parked before is older than what the destination knows now.
local function overtake(id, head)
  local read, event = pcall(cjson.decode, first_line(head))
  local ours = read and redis.call('HGETALL', parked) or {}
  for n = 1, #ours, 2 do
    local created = tonumber(ours[n + 1])
    if created and created < event.created then redis.call('HSET', parked, ours[n], 'overtaken by ' .. id) end
  end
end

if verb == 'settle' then -- what was delivered goes; then the next mailboxes are taken
  local keep_s, ttl, now, count = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
  local settled, taken, at = {}, {}, 8
  for n = 1, count do
    turn_to(ARGV[at])
    local head = removed(ARGV[at + 1], ARGV[at + 2], keep_s)
    if head and redis.call('EXISTS', parked) == 1 then overtake(ARGV[at + 1], head) end
    settled[n] = head and {following()}
    at = at + 3
  end
  for n = at, #ARGV do
    turn_to(ARGV[n])
    taken[#taken + 1] = take(ttl, now)
  end
  return {settled, taken}
end

turn_to(ARGV[4])
if redis.call('GET', lease) ~= token then return false end

if verb == 'renew' then
  redis.call('PEXPIRE', lease, ARGV[5])
  return 1
end
if verb == 'bury' then -- the head, which whoever took it cannot read
  local head = redis.call('LPOP', outbox)
  redis.call('HDEL', troubles, box)
  if head then bury(head) end
  return {following()}
end
if verb == 'note' then
  redis.call('HSET', troubles, box, ARGV[5])
  return 1
end
if verb == 'refuse' then
  local id, letter, created, at, most = ARGV[5], ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[11])
  local head = removed(id, ARGV[6], ARGV[7])
  if not head then return false end
  if at ~= '' then
    park(id, letter .. '\n' .. head, created, at, most)
    return {following()}
  end
  -- It holds the mailbox, which is never due: nothing of it goes before a person has decided.
  redis.call('HSET', letters, id, letter .. '\n' .. head)
  redis.call('HSET', parked, id, created)
  redis.call('HSET', prefix .. 'holding:' .. to, box, id)
  redis.call('ZADD', dirty, '+inf', box)
  redis.call('DEL', lease)
  return {false}
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
