-- The one way to write. All of it happens or nothing does.
--   KEYS[1]  prefix        KEYS[2]  guard key, or '' for none
--   ARGV     1 when it frees space, guard seconds, guard answer,
--            number of preconditions, then (key, expected revision | 'empty') each,
--            number of records, then (key, value | '' to delete) each,
--            number of commands, then (length, word …) each
-- A record's value is stored behind its revision, 12 digits: the compare reads only those.
local prefix, guard = KEYS[1], KEYS[2]
local refused = redis.call('GET', prefix .. 'refuse-writes')
if refused and ARGV[1] ~= '1' then return {'refused', refused} end

-- A message that has been judged waits for no code any more.
local function release()
  local digest = string.sub(guard, string.len(prefix .. 'guard:') + 1)
  if redis.call('HDEL', prefix .. 'held', digest) == 1 then
    redis.call('ZREM', prefix .. 'held-by-time', digest)
  end
end

if guard ~= '' then
  local answer = redis.call('GET', guard)
  if answer then
    release()
    return {'repeat', answer}
  end
end

local at = 3
local function take()
  at = at + 1
  return ARGV[at]
end

for _ = 1, tonumber(take()) do
  local key, expected = take(), take()
  if expected == 'empty' then
    if redis.call('EXISTS', key) == 1 then return {'conflict', key} end
  elseif redis.call('GETRANGE', key, 0, 11) ~= expected then
    return {'conflict', key}
  end
end

local records = {}
for _ = 1, tonumber(take()) do
  local key, value = take(), take()
  if value == '' then
    redis.call('DEL', key) -- first of all, since a full Redis lets nothing else be the first write
  else
    records[#records + 1] = {key, value}
  end
end
local revision = string.format('%012d', redis.call('INCR', prefix .. 'revision'))
for _, record in ipairs(records) do redis.call('SET', record[1], revision .. record[2]) end

for _ = 1, tonumber(take()) do
  local words = {}
  for word = 1, tonumber(take()) do words[word] = take() end
  redis.call(unpack(words))
end

if guard ~= '' then
  redis.call('SET', guard, ARGV[3], 'EX', ARGV[2])
  release()
end
return {'committed', revision}
