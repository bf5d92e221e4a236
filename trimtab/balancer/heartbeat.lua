-- One client's heartbeat: write its own row, drop the rows of clients that are gone, read the sum of all rows.
-- KEYS[1]  hash: client id -> "until_ms json", and the field "total" -> "at_ms json"
-- ARGV     client id; row as JSON {"n": {endpoint: in flight}, "f": {endpoint: recent failures},
--          "w": {endpoint: [answers, seconds per place in line]}}, or "" to leave; row's life in ms;
--          after how many ms the total is summed anew
-- Reply    {now_ms, now_ms, total as JSON {"clients": n, "n": {...}, "f": {...}, "w": {...}}}
-- The total is the sum of all rows at every moment: what a row changes is added to it. Summing anew drops who is gone.
local key, client, row, life, max_age = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function parse(json)
  local fine, values = pcall(cjson.decode, json)
  return fine and type(values) == 'table' and values or nil
end

-- Nothing of a row may stop the others' heartbeats, so what is no number is skipped.
local function add(sums, values, sign)
  for _, kind in ipairs({'n', 'f'}) do
    local into = sums[kind]
    if type(values[kind]) == 'table' then
      for endpoint, count in pairs(values[kind]) do
        if type(count) == 'number' then into[endpoint] = (into[endpoint] or 0) + sign * count end
      end
    end
  end
  if type(values.w) == 'table' then
    for endpoint, pair in pairs(values.w) do
      if type(pair) == 'table' and type(pair[1]) == 'number' and type(pair[2]) == 'number' then
        local into = sums.w[endpoint]
        if not into then
          into = {0, 0}
          sums.w[endpoint] = into
        end
        into[1] = into[1] + sign * pair[1]
        into[2] = into[2] + sign * pair[2]
      end
    end
  end
end

if row == '' then
  redis.call('HDEL', key, client, 'total')
  return {now, now, '{}'}
end
local kept = redis.call('HMGET', key, client, 'total')
redis.call('HSET', key, client, string.format('%.0f %s', now + life, row))

local at, sums
if kept[1] and kept[2] then
  local json
  at, json = kept[2]:match('^(%d+) (.*)$')
  at = tonumber(at)
  -- A total from the future is left over from a server whose clock ran ahead.
  if at and at <= now and now - at < max_age then
    local before, after = parse(kept[1]:match(' (.*)$') or ''), parse(row)
    sums = parse(json)
    if before and after and sums and sums.n and sums.f and sums.w then
      add(sums, before, -1)
      add(sums, after, 1)
    else
      sums = nil
    end
  end
end

if not sums then
  redis.call('PEXPIRE', key, 10 * life)
  at = now
  sums = {clients = 0, n = {}, f = {}, w = {}}
  local rows = redis.call('HGETALL', key)
  for i = 1, #rows, 2 do
    if rows[i] ~= 'total' then
      local ends, json = rows[i + 1]:match('^(%d+) (.*)$')
      ends = tonumber(ends)
      local values = ends and ends > now and ends <= now + 100 * life and parse(json)
      if values then
        sums.clients = sums.clients + 1
        add(sums, values, 1)
      else
        redis.call('HDEL', key, rows[i])
      end
    end
  end
end
local text = cjson.encode(sums)
redis.call('HSET', key, 'total', string.format('%.0f %s', at, text))
return {now, now, text}
