-- Put a stored mapping bundle in force, and remove what is too old to go back to.
--   KEYS[1]  prefix        ARGV  version, entry of the list, versions to keep, entries to keep
local bundles, activations = KEYS[1] .. 'bundles', KEYS[1] .. 'bundle-activations'
if redis.call('HEXISTS', bundles, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', activations, ARGV[2])
redis.call('LTRIM', activations, 0, ARGV[4] - 1)
redis.call('DEL', KEYS[1] .. 'bundle-failed')

local kept, count = {}, 0
for _, entry in ipairs(redis.call('LRANGE', activations, 0, -1)) do
  local version = cjson.decode(entry).version
  if not kept[version] and count < tonumber(ARGV[3]) then
    kept[version], count = true, count + 1
  end
  if not kept[version] then redis.call('LREM', activations, 0, entry) end
end
for _, version in ipairs(redis.call('HKEYS', bundles)) do
  if not kept[version] then redis.call('HDEL', bundles, version) end
end
return 1
