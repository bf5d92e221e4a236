-- One publish of one policy: all of its keys change in this step, or none does.
-- KEYS  ranking, weights, limit, fence, limiter (while it lives the limit is the inner loop's, and is left alone),
--       overloaded, and the queue's counters if there is a default limit
-- ARGV  epoch (0: whichever is stored), seq, lifetime in ms, channel, limit ('' leaves it alone), default limit ('' likewise),
--       seconds until what waits is served ('' unless overloaded), document ('' keeps the ranking and lets it live on), then weight and endpoint in turn
-- Replies {'ok' | 'epoch' | 'seq', stored epoch, stored seq}: 'epoch' and 'seq' mean refused as too old.
-- The first command that writes is one that a full Redis refuses, so that nothing is half done.
local epoch, seq, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local stored = redis.call('HMGET', KEYS[4], 'epoch', 'seq')
local stored_epoch, stored_seq = tonumber(stored[1] or 0) or 0, tonumber(stored[2] or 0) or 0
if epoch == 0 then epoch = stored_epoch end
if epoch < stored_epoch then return {'epoch', stored_epoch, stored_seq} end
if seq <= stored_seq then return {'seq', stored_epoch, stored_seq} end

redis.call('HSET', KEYS[4], 'epoch', string.format('%d', epoch), 'seq', string.format('%d', seq))
if ARGV[8] == '' then
  redis.call('PEXPIRE', KEYS[1], lifetime)
  redis.call('PEXPIRE', KEYS[2], lifetime)
else
  redis.call('SET', KEYS[1], ARGV[8], 'PX', lifetime)
  redis.call('DEL', KEYS[2])
  for first = 9, #ARGV, 1000 do
    redis.call('ZADD', KEYS[2], unpack(ARGV, first, math.min(first + 999, #ARGV)))
  end
  redis.call('PEXPIRE', KEYS[2], lifetime)
end
if ARGV[5] ~= '' and redis.call('EXISTS', KEYS[5]) == 0 then redis.call('SET', KEYS[3], ARGV[5], 'PX', lifetime) end
if ARGV[7] == '' then redis.call('DEL', KEYS[6]) else redis.call('SET', KEYS[6], ARGV[7], 'PX', lifetime) end
-- A key of the wrong type there is the queue's trouble, which its own scripts tell.
if ARGV[6] ~= '' then redis.pcall('HSET', KEYS[7], 'default_limit', ARGV[6]) end
redis.call('PUBLISH', ARGV[4], string.format('%d', seq))
return {'ok', epoch, seq}
