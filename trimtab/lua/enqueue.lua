-- Accept requests. All of one call or none of them: a full queue refuses the whole batch.
-- KEYS: the 13 keys of docs/queue.md, in that order.
-- ARGV: default_limit, max_length (0: none), aging_us, fresh (1: the ids were made for this call), then for each request: id, payload, priority, deadline_ms from now (0: none), cost
-- Reply: {"ok", flags} with one flag per request, 1 accepted, 0 its id was known already; or {"full", retry_after_ms, depth}
local call = redis.call
local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
local count = (#ARGV - 4) / 5
local max_length = tonumber(ARGV[2])

if max_length > 0 then
  local depth = call('ZCARD', KEYS[1]) + call('ZCARD', KEYS[7])
  if depth + count > max_length then
    local fresh = 0
    for i = 0, count - 1 do
      local id = ARGV[5 + 5 * i]
      if call('HEXISTS', KEYS[3], id) + call('HEXISTS', KEYS[11], id) + call('HEXISTS', KEYS[12], id) == 0 then
        fresh = fresh + 1
      end
    end
    if fresh > 0 and depth + fresh > max_length then
      call('HINCRBY', KEYS[4], 'refused', fresh)
      -- Places become free at the rate at which requests start; the last 5 to 10 seconds tell it. No start at all: no promise.
      local window = call('HMGET', KEYS[4], 'prev_at', 'prev_starts', 'starts')
      local starts = (tonumber(window[3]) or 0) - (tonumber(window[2]) or 0)
      local span = math.max(now - (tonumber(window[1]) or now), 1)
      local retry_after = 60000
      if starts > 0 then
        retry_after = math.min(retry_after, math.max(1, math.ceil((depth + fresh - max_length) * span / starts)))
      end
      return {'full', retry_after, depth}
    end
  end
end

local aging_us = tonumber(ARGV[3])
local fresh = ARGV[4] == '1'
local flags = {}
local waiting = {}
local deadlines = {}
for i = 0, count - 1 do
  local at = 5 + 5 * i
  local id = ARGV[at]
  local flag = '0'
  if (fresh or call('HEXISTS', KEYS[11], id) == 0 and call('HEXISTS', KEYS[12], id) == 0)
    and call('HSETNX', KEYS[3], id, ARGV[at + 1]) == 1 then
    local wait_ms = tonumber(ARGV[at + 3])
    local enqueued = now_us + i -- one microsecond apart, so that a batch keeps its order
    local deadline = wait_ms > 0 and now + wait_ms or 0
    local ticket = string.format('1:%s:%s:%.0f:%.0f:%s', ARGV[at + 4], ARGV[at + 2], deadline, enqueued, id)
    waiting[#waiting + 1] = enqueued - tonumber(ARGV[at + 2]) * aging_us
    waiting[#waiting + 1] = ticket
    if deadline > 0 then
      deadlines[#deadlines + 1] = deadline
      deadlines[#deadlines + 1] = ticket
    end
    flag = '1'
  end
  flags[i + 1] = flag
end

if #waiting > 0 then
  call('ZADD', KEYS[1], unpack(waiting))
  if #deadlines > 0 then
    call('ZADD', KEYS[8], unpack(deadlines))
  end
  call('HINCRBY', KEYS[4], 'arrivals', #waiting / 2)
  if call('LLEN', KEYS[6]) == 0 then
    local default_limit = tonumber(ARGV[1])
    local limit = tonumber(call('GET', KEYS[5]) or default_limit) or default_limit
    if limit < 0 then
      limit = default_limit
    end
    if call('ZCARD', KEYS[2]) < limit then
      call('LPUSH', KEYS[6], '1')
    end
  end
end
return {'ok', table.concat(flags)}
