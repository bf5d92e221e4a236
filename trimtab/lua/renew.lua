-- Prolong leases. KEYS: leases. ARGV: lease_ms, then the leases.
-- Reply: one flag per lease, 1 prolonged, 0 lost: it ran out and was taken back, or was settled.
local time = redis.call('TIME')
local expiry = math.floor(time[1] * 1000 + time[2] / 1000) + tonumber(ARGV[1])
local flags = {}
redis.call('ZREM', KEYS[1], '') -- first a write that needs no memory: then a full Redis lets the script go on, and no lease is lost
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'XX', expiry, ARGV[i])
    flags[#flags + 1] = '1'
  else
    flags[#flags + 1] = '0'
  end
end
return table.concat(flags)
