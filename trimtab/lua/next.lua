-- Settle leases and take requests, in one step. The order is the safety: settle, reclaim, and only then look at the limit.
-- KEYS: the 13 keys of docs/queue.md, in that order.
-- ARGV: n, lease_ms, default_limit, max_attempts, result_ttl_ms, aging_us, nonce (letters and digits, new for each call),
--       repeated (1: the reply to the same call was lost), then for each lease to settle: verb, lease, value
--   done  value = result          retry  value = delay_ms:reason
--   dead  value = reason          back   value unused: returned unstarted, the attempt is not counted
-- Reply: {wait_ms, flags, lease, payload, lease, payload, ...}; one flag per settled lease, 1 settled, 0 the lease was lost;
--   wait_ms: nothing was taken, and by then something may be (a lease, a delay or a deadline ends)
local call, match, keys, argv = redis.call, string.match, KEYS, ARGV
local time = call('TIME')
local started = string.format('%s%06d', time[1], time[2])
local now_us = tonumber(started)
local now = math.floor(now_us / 1000)
local n = tonumber(argv[1])
local LEASE = '^(%d+):(%w+):(%d+):(%d+):(%d+):(%-?%d+):(%d+):(%d+):(.*)$'
local TICKET = '^(%d+):(%d+):(%-?%d+):(%d+):(%d+):(.*)$'

-- One field for all totals that each call changes, as numbers: as text, their conversion took a quarter of the script's time.
local TOTALS = '<dddddddddddddd'
local at, inflight_ms, extra_ms, extra_stored, starts, completions, waited_us, service_us, window_at, window_starts, prev_at,
  prev_starts, results_slot, swept_at = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
local stored = call('HGET', keys[4], 'totals')
if stored then
  at, inflight_ms, extra_ms, extra_stored, starts, completions, waited_us, service_us, window_at, window_starts, prev_at,
    prev_starts, results_slot, swept_at = struct.unpack(TOTALS, stored)
end
local leased = call('ZCARD', keys[2])
local extra = leased > 0 and extra_stored or 0 -- no lease, no cost: the sum heals itself
local leased_before, extra_before = leased, extra
local changed = false -- whether the totals must be written
local results = {} -- id, outcome, ...: written at the end
local gone = {}    -- ids whose payload is not needed any more
local failed = {}  -- what to try again or to bury
local flags = ''

for i = 9, #argv, 3 do
  local verb, lease, value = argv[i], argv[i + 1], argv[i + 2]
  local stamp, start, charged, id = match(lease, '^((%d+):%w+):(%d+):%d+:%d+:%-?%d+:%d+:%d+:(.*)$')
  local flag = '0'
  if start and call('ZREM', keys[2], lease) == 1 then
    flag = '1'
    changed = true
    leased = leased - 1
    extra = extra - (charged - 1)
    if verb == 'done' then
      local spent = now_us - start
      if spent < 1 then
        spent = 1
      end
      completions = completions + 1
      service_us = service_us + spent
      local bucket = math.ceil(math.log(spent / 1000) * 5.770780163555854)
      if bucket <= 0 then
        bucket = 0 -- and never -0, which would be a field of its own
      elseif bucket > 80 then
        bucket = 80
      end
      call('HINCRBY', keys[4], 'service:' .. bucket, 1)
      results[#results + 1] = id
      results[#results + 1] = 'done ' .. stamp .. '\n' .. value
      gone[#gone + 1] = id
    elseif verb == 'back' then
      local _, _, _, _, _, priority, deadline, enqueued = match(lease, LEASE)
      local ticket = match(lease, '^%d+:%w+:%d+:(.*)$')
      call('ZADD', keys[1], enqueued - priority * tonumber(argv[6]), ticket)
      if deadline ~= '0' then
        call('ZADD', keys[8], deadline, ticket)
      end
      call('HINCRBY', keys[4], 'released', 1)
    else
      local _, _, _, attempt, cost, priority, deadline, enqueued = match(lease, LEASE)
      local delay, reason = 0, value
      if verb == 'retry' then
        delay, reason = match(value, '^(%d+):(.*)$')
      end
      call('HINCRBY', keys[4], 'failures', 1)
      failed[#failed + 1] = {tonumber(attempt), cost, priority, deadline, enqueued, id, reason, tonumber(delay), verb == 'dead'}
    end
  elseif start and verb == 'done' then
    -- The same completion again, because its reply was lost, is no lost lease.
    local outcome = 'done ' .. stamp .. '\n'
    for slot = 11, 12 do
      local known = call('HGET', keys[slot], id)
      if known and string.sub(known, 1, #outcome) == outcome then
        flag = '1'
      end
    end
  end
  flags = flags .. flag
end

-- What time has brought: leases, delays and deadlines that have ended; of each at most 100 a call, and at most each 10 ms.
local sweep = math.abs(now - swept_at) >= 10
if sweep then
  local expired_leases = call('ZRANGEBYSCORE', keys[2], '-inf', now, 'LIMIT', 0, 100)
  if #expired_leases > 0 then
    changed = true
    for _, lease in ipairs(expired_leases) do
      call('ZREM', keys[2], lease)
      leased = leased - 1
      local _, _, charged, attempt, cost, priority, deadline, enqueued, id = match(lease, LEASE)
      if charged then
        extra = extra - (charged - 1)
        failed[#failed + 1] = {tonumber(attempt), cost, priority, deadline, enqueued, id,
          'the worker was lost: its lease ran out on attempt ' .. attempt, 0}
      end
    end
    call('HINCRBY', keys[4], 'lost', #expired_leases)
  end
end

for _, f in ipairs(failed) do
  local attempt, id = f[1], f[6]
  if f[9] or attempt >= tonumber(argv[4]) then
    call('ZADD', keys[9], now, id)
    call('HSET', keys[10], id, attempt .. ':' .. f[2] .. ':' .. f[3] .. ':0:' .. f[5] .. '\n' .. f[7])
    call('HINCRBY', keys[4], 'dead', 1)
    results[#results + 1] = id
    results[#results + 1] = 'dead \n' .. f[7]
  else
    local ticket = (attempt + 1) .. ':' .. f[2] .. ':' .. f[3] .. ':' .. f[4] .. ':' .. f[5] .. ':' .. id
    if f[8] > 0 then
      call('ZADD', keys[7], now + f[8], ticket)
    else
      call('ZADD', keys[1], f[5] - f[3] * tonumber(argv[6]), ticket)
    end
    if f[4] ~= '0' then
      call('ZADD', keys[8], f[4], ticket)
    end
    call('HINCRBY', keys[4], 'retries', 1)
  end
end

local expired = 0
if sweep then
  for _, ticket in ipairs(call('ZRANGEBYSCORE', keys[7], '-inf', now, 'LIMIT', 0, 100)) do
    local _, _, priority, _, enqueued = match(ticket, TICKET)
    call('ZREM', keys[7], ticket)
    call('ZADD', keys[1], enqueued - priority * tonumber(argv[6]), ticket)
  end

  for _, ticket in ipairs(call('ZRANGEBYSCORE', keys[8], '-inf', now, 'LIMIT', 0, 100)) do
    call('ZREM', keys[8], ticket)
    if call('ZREM', keys[1], ticket) + call('ZREM', keys[7], ticket) > 0 then
      local id = match(ticket, '^%d+:%d+:%-?%d+:%d+:%d+:(.*)$')
      expired = expired + 1
      results[#results + 1] = id
      results[#results + 1] = 'expired \n'
      gone[#gone + 1] = id
    end
  end
end

local limit = tonumber(call('GET', keys[5]) or call('HGET', keys[4], 'default_limit') or argv[3])
if not limit or limit < 0 then
  limit = tonumber(argv[3])
end
local free = limit - leased - extra
local reply = {0, flags}
local blocked, empty = false, false

if n > 0 and argv[8] == '1' then
  -- The lost reply may have carried leases: they bear this call's nonce, so hand out the same ones again.
  for _, lease in ipairs(call('ZRANGE', keys[2], 0, -1)) do
    local _, nonce, _, _, _, _, _, _, id = match(lease, LEASE)
    if nonce == argv[7] then
      call('ZADD', keys[2], now + tonumber(argv[2]), lease)
      reply[#reply + 1] = lease
      reply[#reply + 1] = call('HGET', keys[3], id) or ''
      n = 0
    end
  end
end

-- However many have expired unswept, one call handles some 1,000: it may not hold Redis for long, nor unpack more than Lua can.
while n > 0 and free > 0 and not blocked and #results < 3000 do
  local popped = n == 1 and call('ZPOPMIN', keys[1]) or call('ZPOPMIN', keys[1], math.ceil(math.min(n, free)))
  if #popped == 0 then
    empty = true
    break
  end
  local expiry = now + tonumber(argv[2])
  local leases, ids = {}, {}
  for i = 1, #popped, 2 do
    local ticket = popped[i]
    local _, cost, _, deadline, enqueued, id = match(ticket, TICKET)
    local charged = 1
    if cost ~= '1' then
      charged = math.min(tonumber(cost), limit)
    end
    if blocked or charged > free then
      blocked = true -- strictly in order: a cheap request behind must not starve a dear one
      call('ZADD', keys[1], popped[i + 1], ticket)
    else
      if deadline ~= '0' then
        call('ZREM', keys[8], ticket)
      end
      if deadline ~= '0' and tonumber(deadline) <= now then
        expired = expired + 1
        results[#results + 1] = id
        results[#results + 1] = 'expired \n'
        gone[#gone + 1] = id
      else
        free = free - charged
        extra = extra + charged - 1
        if now_us > tonumber(enqueued) then
          waited_us = waited_us + now_us - enqueued
        end
        leases[#leases + 1] = expiry
        leases[#leases + 1] = started .. ':' .. argv[7] .. ':' .. charged .. ':' .. ticket
        ids[#ids + 1] = id
      end
    end
  end
  if #ids > 0 then
    call('ZADD', keys[2], unpack(leases))
    local payloads = call('HMGET', keys[3], unpack(ids))
    for i = 1, #ids do
      reply[#reply + 1] = leases[2 * i]
      reply[#reply + 1] = payloads[i] or ''
    end
    n = n - #ids
    leased = leased + #ids
    starts = starts + #ids
    changed = true
  end
end

if #results > 0 then
  local ttl = tonumber(argv[5])
  local slot = math.floor(now / ttl)
  local current = keys[11 + slot % 2]
  if slot ~= results_slot then
    -- Two hashes take turns, so that a result lives one to two TTLs and dropping them is one UNLINK.
    call('UNLINK', current)
    if slot ~= results_slot + 1 then
      call('UNLINK', keys[12 - slot % 2])
    end
  end
  call('HSET', current, unpack(results))
  if slot ~= results_slot then
    call('PEXPIREAT', current, (slot + 3) * ttl)
    results_slot = slot
    changed = true
  end
  if #gone > 0 then
    call('HDEL', keys[3], unpack(gone))
  end
  if expired > 0 then
    call('HINCRBY', keys[4], 'expired', expired)
  end
  if call('EXISTS', keys[13]) == 1 then
    for i = 1, #results, 2 do
      if call('SREM', keys[13], results[i]) == 1 then
        call('PUBLISH', keys[13] .. ':' .. results[i], match(results[i + 1], '^%l+'))
      end
    end
  end
end

if changed then
  -- In flight was constant since the last write, so the integral over that time is exact.
  local span = at > 0 and now > at and now - at or 0
  if sweep then
    swept_at = now
  end
  if now - window_at >= 5000 then
    -- Starts in the last 5 to 10 seconds, for the truth of retry_after: the total now, and at two moments before.
    prev_at, prev_starts = window_at > 0 and window_at or now, window_starts
    window_at, window_starts = now, starts
  end
  call('HSET', keys[4], 'totals', struct.pack(TOTALS, now, inflight_ms + leased_before * span,
    extra_ms + extra_before * span, extra, starts, completions, waited_us, service_us, window_at, window_starts, prev_at,
    prev_starts, results_slot, swept_at))
end

if empty and #reply == 2 then
  call('DEL', keys[6]) -- nothing waits: whoever sleeps now must not be woken by an old message
elseif free > 0 and not blocked and call('LLEN', keys[6]) == 0 and call('ZCARD', keys[1]) > 0 then
  call('LPUSH', keys[6], '1')
end

if #reply == 2 and n > 0 then
  local soonest = now + 1000
  for _, key in ipairs({2, 7, 8}) do
    local first = call('ZRANGE', keys[key], 0, 0, 'WITHSCORES')
    soonest = math.min(soonest, tonumber(first[2]) or soonest)
  end
  reply[1] = math.max(soonest - now, 1)
end
return reply
