-- Wake one waiting worker if there is work and room; it wakes the next. KEYS: the 13 keys of docs/queue.md, in that order.
-- ARGV: default_limit. For whoever changes the limit. Reply: 1 woken, 0 no reason to.
local default_limit = tonumber(ARGV[1])
local limit = tonumber(redis.call('GET', KEYS[5]) or redis.call('HGET', KEYS[4], 'default_limit') or default_limit) or default_limit
if limit < 0 then
  limit = default_limit
end
local used = redis.call('ZCARD', KEYS[2])
local totals = used > 0 and redis.call('HGET', KEYS[4], 'totals')
if totals then
  local _, _, _, extra = struct.unpack('<dddd', totals)
  used = used + extra
end
if used < limit and redis.call('ZCARD', KEYS[1]) > 0 and redis.call('LLEN', KEYS[6]) == 0 then
  redis.call('LPUSH', KEYS[6], '1')
  return 1
end
return 0
