-- Add what was heard of peers to what is known of them; whoever was heard least recently gives way.
--   KEYS[1]  prefix
--   ARGV     name of the hash, how many it holds at most, forget who was heard last before (s),
--            then for each peer: name, what was heard as JSON
-- Heard: at; set {…}; add {…}; reset (the streak begins anew); streak; slot and count of queries.
if redis.call('EXISTS', KEYS[1] .. 'refuse-writes') == 1 then return 0 end
local list, by_time = KEYS[1] .. ARGV[1], KEYS[1] .. ARGV[1] .. '-by-time'
local SLOTS = 12

local function forget(name)
  redis.call('HDEL', list, name)
  redis.call('ZREM', by_time, name)
  if ARGV[1] == 'aes' then redis.call('DEL', KEYS[1] .. 'asked:' .. name) end
end

local function count_by_slot(known, heard)
  local slots = known.slots or {}
  for slot in pairs(slots) do
    if tonumber(slot) <= heard.slot - SLOTS then slots[slot] = nil end
  end
  local slot = string.format('%d', heard.slot)
  slots[slot] = (slots[slot] or 0) + heard.count
  known.slots = slots
end

for at = 4, #ARGV, 2 do
  local name, heard = ARGV[at], cjson.decode(ARGV[at + 1])
  local before = redis.call('HGET', list, name)
  local known = before and cjson.decode(before) or {first = heard.at}
  known.last = math.max(known.last or 0, heard.at)
  for key, value in pairs(heard.set or {}) do known[key] = value end
  for key, value in pairs(heard.add or {}) do known[key] = (known[key] or 0) + value end
  if heard.slot then
    known.streak = (heard.reset and 0 or (known.streak or 0)) + heard.streak
    count_by_slot(known, heard)
  end
  redis.call('HSET', list, name, cjson.encode(known))
  redis.call('ZADD', by_time, known.last, name)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', by_time, '-inf', '(' .. ARGV[3], 'LIMIT', 0, 100)) do
  forget(name)
end
while redis.call('ZCARD', by_time) > tonumber(ARGV[2]) do
  forget(redis.call('ZRANGE', by_time, 0, 0)[1])
end
return redis.call('ZCARD', by_time)
