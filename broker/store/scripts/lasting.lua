-- What stays for a while: value and seconds left of each key, '' and -2 where there is nothing.
--   KEYS[1]  prefix        ARGV  key …
local found = {}
for _, key in ipairs(ARGV) do
  found[#found + 1] = redis.call('GET', key) or ''
  found[#found + 1] = redis.call('TTL', key)
end
return found
