-- Dead letters. KEYS: the 13 keys of docs/queue.md, in that order. ARGV: verb, then
--   list, offset, count: reply {id, died_ms, attempts, reason, payload, ...}, the oldest first
--   requeue, default_limit, aging_us, id...: a new life with all attempts and no deadline; reply: how many
--   purge, id...: forgotten for ever, payload included; reply: how many
if ARGV[1] == 'list' then
  local reply = {}
  local found = redis.call('ZRANGE', KEYS[9], ARGV[2], ARGV[2] + ARGV[3] - 1, 'WITHSCORES')
  for i = 1, #found, 2 do
    local attempts, reason = string.match(redis.call('HGET', KEYS[10], found[i]) or '', '^(%d+):[^\n]*\n(.*)$')
    for _, value in ipairs({found[i], found[i + 1], attempts or '0', reason or '',
      redis.call('HGET', KEYS[3], found[i]) or ''}) do
      reply[#reply + 1] = value
    end
  end
  return reply
end

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local count = 0
for i = ARGV[1] == 'purge' and 2 or 4, #ARGV do
  local id = ARGV[i]
  if redis.call('ZREM', KEYS[9], id) == 1 then
    local buried = redis.call('HGET', KEYS[10], id)
    redis.call('HDEL', KEYS[10], id)
    count = count + 1
    if ARGV[1] == 'purge' then
      redis.call('HDEL', KEYS[3], id)
    else
      local cost, priority = string.match(buried, '^%d+:(%d+):(%-?%d+):')
      redis.call('HDEL', KEYS[11], id)
      redis.call('HDEL', KEYS[12], id)
      redis.call('ZADD', KEYS[1], now_us + count - priority * tonumber(ARGV[3]),
        string.format('1:%s:%s:0:%.0f:%s', cost, priority, now_us + count, id))
    end
  end
end
if ARGV[1] == 'requeue' and count > 0 then
  redis.call('HINCRBY', KEYS[4], 'requeued', count)
  if redis.call('LLEN', KEYS[6]) == 0 then
    redis.call('LPUSH', KEYS[6], '1')
  end
end
return count
