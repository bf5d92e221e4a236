-- What the queue holds and has counted, at one instant; writes nothing. KEYS: the 13 keys of docs/queue.md, in that order.
-- ARGV: default_limit. Reply: {now_ms, limit, waiting, delayed, leases, dead, oldest_us (0: none waits), field, value, ...}
local time = redis.call('TIME')
local default_limit = tonumber(ARGV[1])
local limit = tonumber(redis.call('GET', KEYS[5]) or default_limit) or default_limit
if limit < 0 then
  limit = default_limit
end
local head = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
local reply = {math.floor(time[1] * 1000 + time[2] / 1000), limit, redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[7]),
  redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[9]),
  head and string.match(head, '^%d+:%d+:%-?%d+:%d+:(%d+):') or '0'}
for _, value in ipairs(redis.call('HGETALL', KEYS[4])) do
  reply[#reply + 1] = value
end
return reply
