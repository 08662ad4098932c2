-- The orders that may answer a query, in the order of the index, with their patients.
--   KEYS[1]  prefix
--   ARGV     kind, value, low, high, how many orders to read at once
-- Answers: all order keys found; orders (key, value) and patients (key, value) of the first ones.
local prefix, kind, value = KEYS[1], ARGV[1], ARGV[2]
local found, seen = {}, {}

local function add(key)
  if not seen[key] then
    seen[key] = true
    found[#found + 1] = key
  end
end

local function add_orders_of(patient)
  for _, key in ipairs(redis.call('SMEMBERS', prefix .. 'orders-of:' .. patient)) do add(key) end
end

if kind == 'accession' or kind == 'study' then
  for _, key in ipairs(redis.call('SMEMBERS', prefix .. 'by-' .. kind .. ':' .. value)) do add(key) end
elseif kind == 'patient_id' then
  for _, patient in ipairs(redis.call('SMEMBERS', prefix .. 'by-patient_id:' .. value)) do
    add_orders_of(patient)
  end
elseif kind == 'name' then
  local low, high = '[' .. value, '[' .. value .. '\255'
  for _, member in ipairs(redis.call('ZRANGEBYLEX', prefix .. 'by-name', low, high)) do
    add_orders_of(string.match(member, '%z(.*)$'))
  end
else
  local index = prefix .. 'open-' .. kind
  if value ~= '' then index = index .. ':' .. value end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, ARGV[3], ARGV[4])) do
    add(string.match(member, '^(.-)\31'))
  end
end

local orders, patients = {}, {}
for at = 1, math.min(#found, tonumber(ARGV[5])) do
  local order = redis.call('GET', prefix .. 'order:' .. found[at])
  if order then
    orders[#orders + 1] = found[at]
    orders[#orders + 1] = order
    local patient = cjson.decode(string.sub(order, 13)).patient
    if not seen['patient:' .. patient] then
      seen['patient:' .. patient] = true
      patients[#patients + 1] = patient
      patients[#patients + 1] = redis.call('GET', prefix .. 'patient:' .. patient) or ''
    end
  end
end
return {found, orders, patients}
