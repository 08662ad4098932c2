-- The mailboxes that are due for a destination and that no worker holds; none while it is paused.
-- Of many the first tenth are the newest: what is born while much waits is not behind all of it.
--   KEYS[1]  prefix        ARGV  destination, now (ms), how many
if redis.call('HEXISTS', KEYS[1] .. 'paused', ARGV[1]) == 1 then return {} end
local dirty, wanted = KEYS[1] .. 'dirty:' .. ARGV[1], tonumber(ARGV[3])
local free, seen = {}, {}

local function fill(command, from, to, most)
  local at = 0
  repeat -- those that a worker holds must not hide those behind them
    local due = redis.call(command, dirty, from, to, 'LIMIT', at, wanted)
    for _, box in ipairs(due) do
      local lease = KEYS[1] .. 'lease:' .. ARGV[1] .. ':' .. box
      if #free < most and not seen[box] and redis.call('EXISTS', lease) == 0 then
        seen[box] = true
        free[#free + 1] = box
      end
    end
    at = at + wanted
  until #due < wanted or #free >= most
end

if redis.call('ZCOUNT', dirty, '-inf', ARGV[2]) > wanted then
  fill('ZREVRANGEBYSCORE', ARGV[2], '-inf', math.floor(wanted / 10))
end
fill('ZRANGEBYSCORE', '-inf', ARGV[2], wanted)
return free
