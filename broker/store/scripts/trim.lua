-- Remove the oldest archived messages while they are too old or the archive is too large.
--   KEYS[1]  prefix        ARGV  oldest time to keep (ms), largest size (bytes), at most so many
local archive, bytes = KEYS[1] .. 'archive', KEYS[1] .. 'archive-bytes'
local removed = 0
for _, entry in ipairs(redis.call('XRANGE', archive, '-', '+', 'COUNT', ARGV[3])) do
  local id, fields = entry[1], entry[2]
  local old = tonumber(string.match(id, '^%d+')) < tonumber(ARGV[1])
  local large = tonumber(redis.call('GET', bytes) or '0') > tonumber(ARGV[2])
  if not (old or large) then break end
  redis.call('XDEL', archive, id)
  for at = 1, #fields, 2 do
    if fields[at] == 'size' then redis.call('DECRBY', bytes, fields[at + 1]) end
  end
  removed = removed + 1
end
return removed
