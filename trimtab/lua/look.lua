-- How a request stands. KEYS: the 13 keys of docs/queue.md, in that order.
-- ARGV: id, register (1: publish on the channel `waiters:ID` when it ends).
-- Reply: {state, text}: done and its result; dead and the reason; expired; pending (waiting or in flight); unknown.
local id = ARGV[1]
for slot = 11, 12 do
  local known = redis.call('HGET', KEYS[slot], id)
  if known then
    local state, text = string.match(known, '^(%l+) [^\n]*\n(.*)$')
    return {state, text}
  end
end
if redis.call('HEXISTS', KEYS[3], id) == 0 then
  return {'unknown', ''}
end
local buried = redis.call('HGET', KEYS[10], id)
if buried then
  return {'dead', string.match(buried, '^[^\n]*\n(.*)$')}
end
if ARGV[2] == '1' then
  redis.call('SREM', KEYS[13], '') -- first a write that needs no memory, as in renew.lua: a full Redis fails no waiter
  redis.call('SADD', KEYS[13], id)
end
return {'pending', ''}
