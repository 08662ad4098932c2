-- The one way to write. All of it happens or nothing does.
--   KEYS[1]  prefix        KEYS[2]  guard key, or '' for none
--   ARGV     1 when it frees space, guard seconds, guard answer,
--            digest of a message that is listed as refused in part ('' for none), how many may be,
--            number of preconditions, then (key, expected revision | 'members:count' | 'value:text') each,
--            number of keys that must be absent, then each of them,
--            number of records, then (key, value | '' to delete) each,
--            number of patients among them, then the key of each,
--            number of open steps that leave their places, then (patient, member, places) each,
--            number of open steps that take them, then likewise,
--            number of commands, then (length, word …) each
-- A record's value is stored behind its revision, 12 digits: the compare reads only those.
-- A step stands in the indexes as MEMBER@order revision.patient revision, so that who reads an index
-- knows which versions it means; `steps-of:` has the places of a patient's open steps.
local prefix, guard = KEYS[1], KEYS[2]
local refused = redis.call('GET', prefix .. 'refuse-writes')
if refused and ARGV[1] ~= '1' then return {'refused', refused} end

-- A message that has been accepted waits for no code any more, and was not refused for good.
local function release()
  local digest = string.sub(guard, string.len(prefix .. 'guard:') + 1)
  if redis.call('HDEL', prefix .. 'held', digest) == 1 then
    redis.call('ZREM', prefix .. 'held-by-time', digest)
  end
  if redis.call('HDEL', prefix .. 'refused', digest) == 1 then
    redis.call('ZREM', prefix .. 'refused-by-time', digest)
  end
end

if guard ~= '' then
  local answer = redis.call('GET', guard)
  if answer then
    release()
    return {'repeat', answer}
  end
end

local listed, most = ARGV[4], tonumber(ARGV[5])
local at = 5
local function take()
  at = at + 1
  return ARGV[at]
end

for _ = 1, tonumber(take()) do
  local key, expected = take(), take()
  if string.sub(expected, 1, 8) == 'members:' then
    if redis.call('ZCARD', key) ~= tonumber(string.sub(expected, 9)) then return {'conflict', key} end
  elseif string.sub(expected, 1, 6) == 'value:' then
    if redis.call('GET', key) ~= string.sub(expected, 7) then return {'conflict', key} end
  elseif redis.call('GETRANGE', key, 0, 11) ~= expected then
    return {'conflict', key}
  end
end

local absent = tonumber(take())
for from = at + 1, at + absent, 1000 do -- more words at once are too many for Lua's stack
  if redis.call('EXISTS', unpack(ARGV, from, math.min(from + 999, at + absent))) > 0 then
    for key = from, at + absent do
      if redis.call('EXISTS', ARGV[key]) == 1 then return {'conflict', ARGV[key]} end
    end
  end
end
at = at + absent

local records, gone = {}, {}
for _ = 1, tonumber(take()) do
  local key, value = take(), take()
  if value == '' then gone[#gone + 1] = key else records[#records + 1] = {key, value} end
end

local function number(key)
  return string.match(redis.call('GETRANGE', key, 0, 11), '[1-9]%d*') or ''
end

local function order_number(member)
  return number(prefix .. 'order:' .. string.match(member, '^(.-)\31'))
end

local function steps()
  local found = {}
  for n = 1, tonumber(take()) do found[n] = {patient = take(), member = take(), places = take()} end
  return found
end

local patients = {}
for n = 1, tonumber(take()) do
  local key = take()
  patients[n] = {key = key, was = number(prefix .. 'patient:' .. key)}
end
local leaving = steps()
for _, step in ipairs(leaving) do
  step.stamp = '@' .. order_number(step.member) .. '.' .. number(prefix .. 'patient:' .. step.patient)
end
local entering = steps()

for _, key in ipairs(gone) do
  redis.call('DEL', key) -- first of all, since a full Redis lets nothing else be the first write
end
local revision = string.format('%012d', redis.call('INCR', prefix .. 'revision'))
for _, record in ipairs(records) do redis.call('SET', record[1], revision .. record[2]) end

local function leave(places, stamped)
  for index in string.gmatch(places, '\31([^\31]+)') do
    redis.call('ZREM', prefix .. 'open-' .. index, stamped)
  end
end

local function enter(places, stamped)
  local start = string.match(places, '^%d+')
  for index in string.gmatch(places, '\31([^\31]+)') do
    redis.call('ZADD', prefix .. 'open-' .. index, start, stamped)
  end
end

for _, step in ipairs(leaving) do
  leave(step.places, step.member .. step.stamp)
  redis.call('HDEL', prefix .. 'steps-of:' .. step.patient, step.member)
end
for _, patient in ipairs(patients) do
  local now, listed = number(prefix .. 'patient:' .. patient.key), {}
  if now ~= patient.was then listed = redis.call('HGETALL', prefix .. 'steps-of:' .. patient.key) end
  for field = 1, #listed, 2 do
    local member, places = listed[field], listed[field + 1]
    local order = order_number(member)
    leave(places, member .. '@' .. order .. '.' .. patient.was)
    enter(places, member .. '@' .. order .. '.' .. now)
  end
end
for _, step in ipairs(entering) do
  local patient = number(prefix .. 'patient:' .. step.patient)
  enter(step.places, step.member .. '@' .. order_number(step.member) .. '.' .. patient)
  redis.call('HSET', prefix .. 'steps-of:' .. step.patient, step.member, step.places)
end

local archived
for _ = 1, tonumber(take()) do
  local length = tonumber(take())
  local reply = redis.call(unpack(ARGV, at + 1, at + length))
  if ARGV[at + 1] == 'XADD' then archived = reply end
  at = at + length
end

if listed ~= '' and archived then
  local list, by_time = prefix .. 'refused', prefix .. 'refused-by-time'
  local before = redis.call('HGET', list, listed)
  redis.call('HSET', list, listed, (before and string.match(before, '^%S+') or archived) .. ' ' .. archived)
  redis.call('ZADD', by_time, string.match(archived, '^%d+'), listed)
  while redis.call('ZCARD', by_time) > most do
    redis.call('HDEL', list, redis.call('ZPOPMIN', by_time)[1])
  end
end

if guard ~= '' then
  redis.call('SET', guard, ARGV[3], 'EX', ARGV[2])
  release()
end
return {'committed', revision}
