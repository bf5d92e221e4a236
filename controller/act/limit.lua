-- The limit of one policy, alone: written by the inner loop.
-- KEYS  limit, limiter, fence, the queue's counters
-- ARGV  epoch (0: whichever is stored), the limit that stood when this was decided, the new one, lifetime in ms,
--       how long the limit is the inner loop's alone in ms, why, default limit ('' leaves it alone)
-- Replies {'ok' | 'epoch' | 'moved', stored epoch, limit}: refused because a newer leader has written, or because the limit is
-- another one by now, so that an older word never takes the place of a newer one.
-- The first command that writes is one that a full Redis refuses, so that nothing is half done.
local epoch, stored = tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[3], 'epoch') or 0) or 0
local stands = redis.call('GET', KEYS[1])
if epoch ~= 0 and epoch < stored then return {'epoch', stored, stands or ''} end
if stands ~= ARGV[2] then return {'moved', stored, stands or ''} end

redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
redis.call('SET', KEYS[2], ARGV[6], 'PX', ARGV[5])
if epoch > stored then redis.call('HSET', KEYS[3], 'epoch', string.format('%d', epoch)) end
-- A key of the wrong type there is the queue's trouble, which its own scripts tell.
if ARGV[7] ~= '' then redis.pcall('HSET', KEYS[4], 'default_limit', ARGV[7]) end
return {'ok', math.max(epoch, stored), ARGV[3]}
