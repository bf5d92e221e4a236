-- One client's heartbeat: write its own row, drop the rows of clients that are gone, read the sum of all rows.
-- KEYS[1]  hash: client id -> "until_ms json", and the field "total" -> "at_ms json"
-- ARGV     client id; row as JSON {"n": {endpoint: in flight}, "f": {endpoint: recent failures}}, or "" to leave;
--          row's life in ms; how old, in ms, a total may be before it is summed anew
-- Reply    {now_ms, at_ms, total as JSON {"clients": n, "n": {...}, "f": {...}}}
local key, client, row, life, max_age = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

if row == '' then
  redis.call('HDEL', key, client, 'total')
  return {now, now, '{}'}
end
redis.call('HSET', key, client, string.format('%.0f %s', now + life, row))
redis.call('PEXPIRE', key, 10 * life)

local total = redis.call('HGET', key, 'total')
if total then
  local at, sums = total:match('^(%d+) (.*)$')
  at = tonumber(at)
  -- A total from the future is left over from a server whose clock ran ahead.
  if at and at <= now and now - at < max_age then return {now, at, sums} end
end

local sums = {clients = 0, n = {}, f = {}}
local rows = redis.call('HGETALL', key)
for i = 1, #rows, 2 do
  if rows[i] ~= 'total' then
    local ends, json = rows[i + 1]:match('^(%d+) (.*)$')
    ends = tonumber(ends)
    local fine, values = false, nil
    if ends and ends > now and ends <= now + 100 * life then fine, values = pcall(cjson.decode, json) end
    if fine and type(values) == 'table' then
      sums.clients = sums.clients + 1
      for _, kind in ipairs({'n', 'f'}) do
        if type(values[kind]) == 'table' then
          for endpoint, count in pairs(values[kind]) do
            if type(count) == 'number' then sums[kind][endpoint] = (sums[kind][endpoint] or 0) + count end
          end
        end
      end
    else
      redis.call('HDEL', key, rows[i])
    end
  end
end
local text = cjson.encode(sums)
redis.call('HSET', key, 'total', string.format('%.0f %s', now, text))
return {now, now, text}
