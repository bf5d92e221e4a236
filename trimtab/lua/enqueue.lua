-- Accept requests. All of one call or none of them: a full queue refuses the whole batch.
-- KEYS: the 13 keys of docs/queue.md, in that order; when fresh is 1 the first 8 do.
-- ARGV: default_limit, max_length (0: none), aging_us, fresh (1: the ids were made for this call), then for each request: id, payload, priority, deadline_ms from now (0: none), cost
-- Reply: {"ok", flags} with one flag per request, 1 accepted, 0 its id was known already; or {"full", retry_after_ms, depth}
local call = redis.call
local time = call('TIME')
local enqueued = string.format('%s%06d', time[1], time[2])
local now_us = tonumber(enqueued)
local count = (#ARGV - 4) / 5
local fresh = ARGV[4] == '1'

if ARGV[2] ~= '0' then
  local max_length = tonumber(ARGV[2])
  local depth = call('ZCARD', KEYS[1]) + call('ZCARD', KEYS[7])
  if depth + count > max_length then
    local unknown = 0
    for i = 5, #ARGV, 5 do
      if call('HEXISTS', KEYS[3], ARGV[i]) == 0
        and (fresh or call('HEXISTS', KEYS[11], ARGV[i]) + call('HEXISTS', KEYS[12], ARGV[i]) == 0) then
        unknown = unknown + 1
      end
    end
    if unknown > 0 and depth + unknown > max_length then
      call('HINCRBY', KEYS[4], 'refused', unknown)
      -- Places become free at the rate at which requests start; the last 5 to 10 seconds tell it. No start at all: no promise.
      local retry_after = 60000
      local totals = call('HGET', KEYS[4], 'totals')
      if totals then
        local _, _, _, _, starts, _, _, _, _, _, prev_at, prev_starts = struct.unpack('<dddddddddddddd', totals)
        if starts > prev_starts then
          local span = math.max(math.floor(now_us / 1000) - prev_at, 1)
          retry_after = math.min(retry_after,
            math.max(1, math.ceil((depth + unknown - max_length) * span / (starts - prev_starts))))
        end
      end
      return {'full', retry_after, depth}
    end
  end
end

local flags = ''
local waiting = {}
local deadlines = {}
for i = 5, #ARGV, 5 do
  local id, priority, wait_ms = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local flag = '0'
  if (fresh or call('HEXISTS', KEYS[11], id) == 0 and call('HEXISTS', KEYS[12], id) == 0)
    and call('HSETNX', KEYS[3], id, ARGV[i + 1]) == 1 then
    if i > 5 then
      enqueued = string.format('%.0f', now_us + (i - 5) / 5) -- one microsecond apart, so that a batch keeps its order
    end
    local deadline = '0'
    if wait_ms ~= '0' then
      deadline = string.format('%.0f', math.floor(now_us / 1000) + wait_ms)
    end
    local ticket = '1:' .. ARGV[i + 4] .. ':' .. priority .. ':' .. deadline .. ':' .. enqueued .. ':' .. id
    waiting[#waiting + 1] = priority == '0' and enqueued or enqueued - priority * tonumber(ARGV[3])
    waiting[#waiting + 1] = ticket
    if wait_ms ~= '0' then
      deadlines[#deadlines + 1] = deadline
      deadlines[#deadlines + 1] = ticket
    end
    flag = '1'
  end
  flags = flags .. flag
end

if #waiting > 0 then
  call('ZADD', KEYS[1], unpack(waiting))
  if #deadlines > 0 then
    call('ZADD', KEYS[8], unpack(deadlines))
  end
  if call('HINCRBY', KEYS[4], 'arrivals', #waiting / 2) == #waiting / 2 then
    call('HSETNX', KEYS[4], 'since', string.format('%.0f', now_us)) -- the first ever: whoever reads sees that counting began anew
  end
  if call('LLEN', KEYS[6]) == 0 then
    local limit = tonumber(call('GET', KEYS[5]) or call('HGET', KEYS[4], 'default_limit') or ARGV[1])
    if not limit or limit < 0 then
      limit = tonumber(ARGV[1])
    end
    if call('ZCARD', KEYS[2]) < limit then
      call('LPUSH', KEYS[6], '1')
    end
  end
end
return {'ok', flags}
