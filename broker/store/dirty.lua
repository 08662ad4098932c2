-- The orders that are due for a RIS and that no worker holds.
--   KEYS[1]  prefix        ARGV  ris, now (ms), how many
local dirty, wanted = KEYS[1] .. 'dirty:' .. ARGV[1], tonumber(ARGV[3])
local free, at = {}, 0
repeat -- orders that a worker holds must not hide those behind them
  local due = redis.call('ZRANGEBYSCORE', dirty, '-inf', ARGV[2], 'LIMIT', at, wanted)
  for _, order in ipairs(due) do
    local lease = KEYS[1] .. 'lease:' .. ARGV[1] .. ':' .. order
    if #free < wanted and redis.call('EXISTS', lease) == 0 then free[#free + 1] = order end
  end
  at = at + wanted
until #due < wanted or #free == wanted
return free
