-- Archived messages by their stream IDs; those that are gone are left out.
--   KEYS[1]  prefix        ARGV  stream ID …
local found = {}
for _, id in ipairs(ARGV) do
  local entry = redis.call('XRANGE', KEYS[1] .. 'archive', id, id)[1]
  if entry then found[#found + 1] = entry end
end
return found
