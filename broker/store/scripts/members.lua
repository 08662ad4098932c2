-- The open steps that may answer a query, each with the versions of its order and its patient:
-- ORDER\31PROCEDURE\31STEP@order revision.patient revision, as they stand in the indexes by start.
-- With `ended` numbers and patients lead to all steps, also those that are in no index: such a
-- member is ORDER@…, for all that the order has.
--   KEYS[1]  prefix
--   ARGV     kind, value, low, high, after, ended (1 or 0), how many to give at once
-- Answers: how many there are (of a start), the members, and where the next slice begins, '' at the
-- end. A slice ends between two starts or two names: what comes or goes meanwhile shifts nothing.
local prefix, kind, value = KEYS[1], ARGV[1], ARGV[2]
local low, high, after, ended, wanted = ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1', tonumber(ARGV[7])
local members = {}

local function number(key)
  return string.match(redis.call('GETRANGE', key, 0, 11), '[1-9]%d*') or ''
end

local function add_steps_of(patient, of_order)
  local version = '.' .. number(prefix .. 'patient:' .. patient)
  if ended then
    local orders = of_order and {of_order} or redis.call('ZRANGE', prefix .. 'orders-of:' .. patient, 0, -1)
    for _, order in ipairs(orders) do
      members[#members + 1] = order .. '@' .. number(prefix .. 'order:' .. order) .. version
    end
    return
  end
  for _, member in ipairs(redis.call('HKEYS', prefix .. 'steps-of:' .. patient)) do
    local order = string.match(member, '^(.-)\31')
    if not of_order or of_order == order then
      members[#members + 1] = member .. '@' .. number(prefix .. 'order:' .. order) .. version
    end
  end
end

if kind == 'accession' or kind == 'study' then
  for _, order in ipairs(redis.call('ZRANGE', prefix .. 'by-' .. kind .. ':' .. value, 0, -1)) do
    local head = redis.call('GETRANGE', prefix .. 'order:' .. order, 12, 1023)
    add_steps_of(string.sub(head, 5, 4 + (tonumber(string.sub(head, 1, 4)) or 0)), order)
  end
  return {#members, members, ''}
end
if kind == 'patient_id' then
  for _, patient in ipairs(redis.call('ZRANGE', prefix .. 'by-patient_id:' .. value, 0, -1)) do
    add_steps_of(patient)
  end
  return {#members, members, ''}
end
if kind == 'patient' then
  add_steps_of(value)
  return {#members, members, ''}
end
if kind == 'name' then
  local from = after == '' and '[' .. value or '(' .. after
  local names = redis.call('ZRANGEBYLEX', prefix .. 'by-name', from, '[' .. value .. '\255',
    'LIMIT', 0, wanted)
  for _, name in ipairs(names) do add_steps_of(string.match(name, '%z(.*)$')) end
  return {#members, members, #names == wanted and names[wanted] or ''}
end

-- No index has the steps that are done: whoever asks for them by anything else than a number or a
-- name looks through all orders, those with an open step first, in the order of their last change.
local whole_orders = kind == 'unperformed' or kind == 'closed'
local index = prefix .. (whole_orders and kind or 'open-' .. kind)
if value ~= '' then index = index .. ':' .. value end
local found = redis.call('ZRANGEBYSCORE', index, low, high, 'LIMIT', 0, wanted + 1)
local count = redis.call('ZCOUNT', index, low, high)
local next_low = ''
if #found > wanted then
  local last = redis.call('ZSCORE', index, found[#found])
  repeat found[#found] = nil
  until #found == 0 or redis.call('ZSCORE', index, found[#found]) ~= last
  if #found == 0 then -- more begin at one moment than a slice holds: they are one slice
    found = redis.call('ZRANGEBYSCORE', index, last, last)
    next_low = '(' .. last
  else
    next_low = last
  end
end
if not whole_orders then return {count, found, next_low} end
for _, order in ipairs(found) do
  local head = redis.call('GETRANGE', prefix .. 'order:' .. order, 12, 1023)
  add_steps_of(string.sub(head, 5, 4 + (tonumber(string.sub(head, 1, 4)) or 0)), order)
end
if kind == 'unperformed' then count = count + redis.call('ZCARD', prefix .. 'closed') end
return {count, members, next_low}
