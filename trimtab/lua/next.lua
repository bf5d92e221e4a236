-- Settle leases and take requests, in one step. The order is the safety: settle, reclaim, and only then look at the limit.
-- KEYS: the 13 keys of docs/queue.md, in that order.
-- ARGV: n, lease_ms, default_limit, max_attempts, result_ttl_ms, aging_us, nonce (letters and digits, new for each call),
--       repeated (1: the reply to the same call was lost), then for each lease to settle: verb, lease, value
--   done  value = result          retry  value = delay_ms:reason
--   dead  value = reason          back   value unused: returned unstarted, the attempt is not counted
-- Reply: {wait_ms, flags, lease, payload, lease, payload, ...}; one flag per settled lease, 1 settled, 0 the lease was lost;
--   wait_ms: nothing was taken, and by then something may be (a lease, a delay or a deadline ends)
local call = redis.call
local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
local n = tonumber(ARGV[1])
local max_attempts = tonumber(ARGV[4])
local aging_us = tonumber(ARGV[6])
local LEASE = '^(%d+):(%w+):(%d+):(%d+):(%d+):(%-?%d+):(%d+):(%d+):(.*)$'
local TICKET = '^(%d+):(%d+):(%-?%d+):(%d+):(%d+):(.*)$'

local counters = call('HMGET', KEYS[4], 'at', 'inflight_ms', 'extra_ms', 'extra', 'starts', 'completions', 'waited_us',
  'service_us', 'window_at', 'results_slot', 'swept_at')
local leased = call('ZCARD', KEYS[2])
local extra = leased > 0 and tonumber(counters[4]) or 0 -- no lease, no cost: the sum heals itself
local leased_before, extra_before = leased, extra
local completions, service_us = 0, 0
local ended = {}  -- id, state, stamp, text, ...: their results are written at the end
local failed = {} -- what to try again or to bury
local flags = {}

for i = 9, #ARGV, 3 do
  local verb, lease, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local start, nonce, charged, id = string.match(lease, '^(%d+):(%w+):(%d+):%d+:%d+:%-?%d+:%d+:%d+:(.*)$')
  local flag = '0'
  if start and call('ZREM', KEYS[2], lease) == 1 then
    flag = '1'
    leased = leased - 1
    extra = extra - (charged - 1)
    if verb == 'done' then
      local spent = math.max(now_us - start, 1)
      completions = completions + 1
      service_us = service_us + spent
      local bucket = math.min(math.max(math.ceil(math.log(spent / 1000) * 5.770780163555854), 0), 80)
      call('HINCRBY', KEYS[4], 'service:' .. bucket, 1)
      ended[#ended + 1] = {id, 'done', start .. ':' .. nonce, value}
    elseif verb == 'back' then
      local _, _, _, _, _, priority, deadline, enqueued = string.match(lease, LEASE)
      call('ZADD', KEYS[1], enqueued - priority * aging_us, string.match(lease, '^%d+:%w+:%d+:(.*)$'))
      if deadline ~= '0' then
        call('ZADD', KEYS[8], deadline, string.match(lease, '^%d+:%w+:%d+:(.*)$'))
      end
      call('HINCRBY', KEYS[4], 'released', 1)
    else
      local _, _, _, attempt, cost, priority, deadline, enqueued = string.match(lease, LEASE)
      local delay, reason = 0, value
      if verb == 'retry' then
        delay, reason = string.match(value, '^(%d+):(.*)$')
      end
      call('HINCRBY', KEYS[4], 'failures', 1)
      failed[#failed + 1] = {tonumber(attempt), cost, priority, deadline, enqueued, id, reason, tonumber(delay), verb == 'dead'}
    end
  elseif start and verb == 'done' then
    -- The same completion again, because its reply was lost, is no lost lease.
    local stamp = 'done ' .. start .. ':' .. nonce .. '\n'
    for slot = 11, 12 do
      local known = call('HGET', KEYS[slot], id)
      if known and string.sub(known, 1, #stamp) == stamp then
        flag = '1'
      end
    end
  end
  flags[#flags + 1] = flag
end

-- What time has brought: leases, delays and deadlines that have ended; of each at most 100 a call, and at most each 10 ms.
local sweep = math.abs(now - (tonumber(counters[11]) or 0)) >= 10
if sweep then
  local expired_leases = call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)
  if #expired_leases > 0 then
    for _, lease in ipairs(expired_leases) do
      call('ZREM', KEYS[2], lease)
      leased = leased - 1
      local _, _, charged, attempt, cost, priority, deadline, enqueued, id = string.match(lease, LEASE)
      if charged then
        extra = extra - (charged - 1)
        failed[#failed + 1] = {tonumber(attempt), cost, priority, deadline, enqueued, id,
          'the worker was lost: its lease ran out on attempt ' .. attempt, 0}
      end
    end
    call('HINCRBY', KEYS[4], 'lost', #expired_leases)
  end
end

for _, f in ipairs(failed) do
  local attempt, id = f[1], f[6]
  if f[9] or attempt >= max_attempts then
    call('ZADD', KEYS[9], now, id)
    call('HSET', KEYS[10], id, attempt .. ':' .. f[2] .. ':' .. f[3] .. ':0:' .. f[5] .. '\n' .. f[7])
    call('HINCRBY', KEYS[4], 'dead', 1)
    ended[#ended + 1] = {id, 'dead', '', f[7]}
  else
    local ticket = (attempt + 1) .. ':' .. f[2] .. ':' .. f[3] .. ':' .. f[4] .. ':' .. f[5] .. ':' .. id
    if f[8] > 0 then
      call('ZADD', KEYS[7], now + f[8], ticket)
    else
      call('ZADD', KEYS[1], f[5] - f[3] * aging_us, ticket)
    end
    if f[4] ~= '0' then
      call('ZADD', KEYS[8], f[4], ticket)
    end
    call('HINCRBY', KEYS[4], 'retries', 1)
  end
end

if sweep then
  for _, ticket in ipairs(call('ZRANGEBYSCORE', KEYS[7], '-inf', now, 'LIMIT', 0, 100)) do
    local _, _, priority, _, enqueued = string.match(ticket, TICKET)
    call('ZREM', KEYS[7], ticket)
    call('ZADD', KEYS[1], enqueued - priority * aging_us, ticket)
  end

  for _, ticket in ipairs(call('ZRANGEBYSCORE', KEYS[8], '-inf', now, 'LIMIT', 0, 100)) do
    call('ZREM', KEYS[8], ticket)
    if call('ZREM', KEYS[1], ticket) + call('ZREM', KEYS[7], ticket) > 0 then
      ended[#ended + 1] = {string.match(ticket, '^%d+:%d+:%-?%d+:%d+:%d+:(.*)$'), 'expired', '', ''}
    end
  end
end

local default_limit = tonumber(ARGV[3])
local limit = tonumber(call('GET', KEYS[5]) or default_limit) or default_limit
if limit < 0 then
  limit = default_limit
end
local free = limit - leased - extra
local reply = {0, table.concat(flags)}
local starts, waited_us = 0, 0
local blocked = false
local expiry = now + tonumber(ARGV[2])

if n > 0 and ARGV[8] == '1' then
  -- The lost reply may have carried leases: they bear this call's nonce, so hand out the same ones again.
  for _, lease in ipairs(call('ZRANGE', KEYS[2], 0, -1)) do
    local _, nonce, _, _, _, _, _, _, id = string.match(lease, LEASE)
    if nonce == ARGV[7] then
      call('ZADD', KEYS[2], expiry, lease)
      reply[#reply + 1] = lease
      reply[#reply + 1] = call('HGET', KEYS[3], id) or ''
      n = 0
    end
  end
end

while n > 0 and free > 0 and not blocked do
  local popped = call('ZPOPMIN', KEYS[1], math.min(n, free))
  if #popped == 0 then
    break
  end
  local leases, ids = {}, {}
  for i = 1, #popped, 2 do
    local ticket = popped[i]
    local _, cost, _, deadline, enqueued, id = string.match(ticket, TICKET)
    local charged = cost == '1' and 1 or math.min(tonumber(cost), limit)
    if blocked or charged > free then
      blocked = true -- strictly in order: a cheap request behind must not starve a dear one
      call('ZADD', KEYS[1], popped[i + 1], ticket)
    else
      if deadline ~= '0' then
        call('ZREM', KEYS[8], ticket)
      end
      if deadline ~= '0' and tonumber(deadline) <= now then
        ended[#ended + 1] = {id, 'expired', '', ''}
      else
        free = free - charged
        extra = extra + charged - 1
        waited_us = waited_us + math.max(now_us - enqueued, 0)
        leases[#leases + 1] = expiry
        leases[#leases + 1] = string.format('%.0f:%s:%d:%s', now_us, ARGV[7], charged, ticket)
        ids[#ids + 1] = id
      end
    end
  end
  if #ids > 0 then
    call('ZADD', KEYS[2], unpack(leases))
    local payloads = call('HMGET', KEYS[3], unpack(ids))
    for i = 1, #ids do
      reply[#reply + 1] = leases[2 * i]
      reply[#reply + 1] = payloads[i] or ''
    end
    n = n - #ids
    leased = leased + #ids
    starts = starts + #ids
  end
end

if #ended > 0 then
  local ttl = tonumber(ARGV[5])
  local slot = math.floor(now / ttl)
  local known = tonumber(counters[10]) or 0
  if slot ~= known then
    -- Two hashes take turns, so that a result lives one to two TTLs and dropping them is one UNLINK.
    call('UNLINK', KEYS[11 + slot % 2])
    if slot ~= known + 1 then
      call('UNLINK', KEYS[12 - slot % 2])
    end
  end
  local results, gone = {}, {}
  local waiters = call('EXISTS', KEYS[13]) == 1
  for _, e in ipairs(ended) do
    local id, state = e[1], e[2]
    results[#results + 1] = id
    results[#results + 1] = state .. ' ' .. e[3] .. '\n' .. e[4]
    if state ~= 'dead' then
      gone[#gone + 1] = id
    end
    if state == 'expired' then
      call('HINCRBY', KEYS[4], 'expired', 1)
    end
    if waiters and call('SREM', KEYS[13], id) == 1 then
      call('PUBLISH', KEYS[13] .. ':' .. id, state)
    end
  end
  call('HSET', KEYS[11 + slot % 2], unpack(results))
  if slot ~= known then
    call('PEXPIREAT', KEYS[11 + slot % 2], (slot + 3) * ttl)
    call('HSET', KEYS[4], 'results_slot', slot)
  end
  if #gone > 0 then
    call('HDEL', KEYS[3], unpack(gone))
  end
end

if leased ~= leased_before or extra ~= extra_before or starts > 0 or completions > 0 then
  -- In flight was constant since the last write, so the integral over that time is exact.
  local span = math.max(now - (tonumber(counters[1]) or now), 0)
  local total_starts = (tonumber(counters[5]) or 0) + starts
  local fields = {'at', now, 'inflight_ms', (tonumber(counters[2]) or 0) + leased_before * span}
  local size = 4
  if sweep then
    fields[5], fields[6] = 'swept_at', now
    size = 6
  end
  if starts > 0 then
    fields[size + 1], fields[size + 2] = 'starts', total_starts
    fields[size + 3], fields[size + 4] = 'waited_us', (tonumber(counters[7]) or 0) + waited_us
    size = size + 4
  end
  if completions > 0 then
    fields[size + 1], fields[size + 2] = 'completions', (tonumber(counters[6]) or 0) + completions
    fields[size + 3], fields[size + 4] = 'service_us', (tonumber(counters[8]) or 0) + service_us
    size = size + 4
  end
  if extra_before ~= 0 or extra ~= (tonumber(counters[4]) or 0) then
    fields[size + 1], fields[size + 2] = 'extra', extra
    fields[size + 3], fields[size + 4] = 'extra_ms', (tonumber(counters[3]) or 0) + extra_before * span
  end
  call('HSET', KEYS[4], unpack(fields))
  if now - (tonumber(counters[9]) or 0) >= 5000 then
    -- Starts in the last 5 to 10 seconds, for the truth of retry_after: the total now, and at two moments before.
    local window = call('HMGET', KEYS[4], 'window_at', 'window_starts')
    call('HSET', KEYS[4], 'prev_at', window[1] or now, 'prev_starts', window[2] or 0,
      'window_at', now, 'window_starts', total_starts)
  end
  if not counters[1] then
    -- Longer than 64 bytes on purpose: Redis then keeps this hash as a table, and every field is found in one step.
    call('HSET', KEYS[4], 'about',
      'Counters of a Trimtab request queue; the layout is documented in docs/queue.md, layout 1.')
  end
end

if starts == 0 and #reply == 2 and n > 0 and free > 0 and not blocked then
  call('DEL', KEYS[6]) -- nothing waits: whoever sleeps now must not be woken by an old message
elseif free > 0 and not blocked and call('LLEN', KEYS[6]) == 0 and call('ZCARD', KEYS[1]) > 0 then
  call('LPUSH', KEYS[6], '1')
end

if #reply == 2 and n > 0 then
  local soonest = now + 1000
  for _, key in ipairs({2, 7, 8}) do
    local first = call('ZRANGE', KEYS[key], 0, 0, 'WITHSCORES')
    soonest = math.min(soonest, tonumber(first[2]) or soonest)
  end
  reply[1] = math.max(soonest - now, 1)
end
return reply
