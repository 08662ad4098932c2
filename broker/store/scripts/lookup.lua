-- Everything that a message names, read at one moment. A member that leads to no record is taken
-- off its index: it would make every commit of its number conflict.
--   KEYS[1]  prefix
--   ARGV[1]  JSON: orders, patients (keys), identifiers ([kind, value]), orders_of_patients,
--            tombstones (kind:value), given (whether the count of generated numbers is wanted),
--            exams ([kind, value]: numbers for which performed steps may wait)
-- Answers flat lists: orders (key, value), patients (key, value), aliases (asked, actual),
-- tombstones (kind:value, JSON); that count behind its revision, '' for none; performed steps
-- (SOP Instance UID, value); names with an alias that leads to no record (kind:key).
local prefix, asked = KEYS[1], cjson.decode(ARGV[1])
local orders, patients, aliases, tombstones, exams, seen = {}, {}, {}, {}, {}, {}
local astray = {}

-- A record outweighs an alias, and an alias to nothing is none: either may outlive the other.
local function resolved(kind, key)
  local actual = key
  for _ = 1, 8 do -- a chain of merges is followed, a circle is left
    if redis.call('EXISTS', prefix .. kind .. ':' .. actual) == 1 then break end
    local following = redis.call('GET', prefix .. 'alias:' .. kind .. ':' .. actual)
    if not following then
      if actual ~= key then astray[#astray + 1] = kind .. ':' .. key end
      return key
    end
    actual = following
  end
  if actual ~= key then
    aliases[#aliases + 1] = kind .. ':' .. key
    aliases[#aliases + 1] = actual
  end
  return actual
end

local function read_patient(key)
  key = resolved('patient', key)
  local name = prefix .. 'patient:' .. key
  if seen[name] then return end
  seen[name] = true
  local value = redis.call('GET', name)
  if value then
    patients[#patients + 1] = key
    patients[#patients + 1] = value
  end
end

local function read_order(key)
  key = resolved('order', key)
  local name = prefix .. 'order:' .. key
  if seen[name] then return end
  seen[name] = true
  local value = redis.call('GET', name)
  if value then
    orders[#orders + 1] = key
    orders[#orders + 1] = value
    read_patient(string.sub(value, 17, 16 + (tonumber(string.sub(value, 13, 16)) or 0)))
  end
end

local function read_members(index)
  for _, key in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    if redis.call('EXISTS', prefix .. 'order:' .. key) == 1 then
      read_order(key)
    else
      redis.call('ZREM', index, key)
    end
  end
end

local function read_tombstone(name)
  local value = redis.call('GET', prefix .. 'tombstone:' .. name)
  if value then
    tombstones[#tombstones + 1] = name
    tombstones[#tombstones + 1] = value
  end
end

local function read_exams(index)
  for _, uid in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local value = redis.call('GET', prefix .. 'mpps:' .. uid)
    if value then
      exams[#exams + 1] = uid
      exams[#exams + 1] = value
    else
      redis.call('ZREM', index, uid)
    end
  end
end

for _, name in ipairs(asked.tombstones) do read_tombstone(name) end
for _, key in ipairs(asked.orders) do read_order(key) end
for _, pair in ipairs(asked.identifiers) do
  read_members(prefix .. 'by-' .. pair[1] .. ':' .. pair[2])
end
for _, key in ipairs(asked.patients) do
  read_patient(key)
  if asked.orders_of_patients then
    read_members(prefix .. 'orders-of:' .. resolved('patient', key))
  end
end
local given = asked.given and redis.call('GET', prefix .. 'numbers-given') or ''
for _, pair in ipairs(asked.exams) do
  read_exams(prefix .. 'unlinked-' .. pair[1] .. ':' .. pair[2])
end
return {orders, patients, aliases, tombstones, given or '', exams, astray}
