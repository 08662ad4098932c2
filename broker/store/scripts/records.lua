-- Orders with their patients, all at one moment; those that are gone are left out.
--   KEYS[1]  prefix        ARGV  order keys
-- Answers flat lists: orders (key, value), patients (key, value).
local prefix, names = KEYS[1], {}
for at, key in ipairs(ARGV) do names[at] = prefix .. 'order:' .. key end
local found, orders, patients, seen = redis.call('MGET', unpack(names)), {}, {}, {}
names = {}
for at, order in ipairs(found) do
  if order then
    orders[#orders + 1] = ARGV[at]
    orders[#orders + 1] = order
    local patient = string.sub(order, 17, 16 + (tonumber(string.sub(order, 13, 16)) or 0))
    if not seen[patient] then
      seen[patient] = true
      patients[#patients + 1] = patient
      names[#names + 1] = prefix .. 'patient:' .. patient
    end
  end
end
found = #names > 0 and redis.call('MGET', unpack(names)) or {}
local pairs_of = {}
for at, patient in ipairs(patients) do
  pairs_of[#pairs_of + 1] = patient
  pairs_of[#pairs_of + 1] = found[at] or ''
end
return {orders, pairs_of}
