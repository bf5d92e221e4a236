-- What the queue holds and has counted, at one instant; writes nothing. KEYS: the 13 keys of docs/queue.md, in that order.
-- ARGV: default_limit. Reply: {now_ms, limit, waiting, delayed, leases, dead, oldest_us (0: none waits), counter, value, ...}
local time = redis.call('TIME')
local default_limit = tonumber(ARGV[1])
local limit = tonumber(redis.call('GET', KEYS[5]) or redis.call('HGET', KEYS[4], 'default_limit') or default_limit) or default_limit
if limit < 0 then
  limit = default_limit
end
local head = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
local reply = {math.floor(time[1] * 1000 + time[2] / 1000), limit, redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[7]),
  redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[9]),
  head and string.match(head, '^%d+:%d+:%-?%d+:%d+:(%d+):') or '0'}
local counters = redis.call('HGETALL', KEYS[4])
for i = 1, #counters, 2 do
  if counters[i] == 'totals' then
    local totals = {struct.unpack('<dddddddddddddd', counters[i + 1])}
    for index, name in ipairs({'at', 'inflight_ms', 'extra_ms', 'extra', 'starts', 'completions', 'waited_us', 'service_us',
      'window_at', 'window_starts', 'prev_at', 'prev_starts', 'results_slot', 'swept_at'}) do
      reply[#reply + 1] = name
      reply[#reply + 1] = string.format('%.0f', totals[index])
    end
  else
    reply[#reply + 1] = counters[i]
    reply[#reply + 1] = counters[i + 1]
  end
end
return reply
