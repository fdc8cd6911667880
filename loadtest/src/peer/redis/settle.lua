-- Commits what is held, or gives it back, once under its key.
-- KEYS: the key's answer, overdue holds by deadline, the outbox, the hold.
-- ARGV: what is asked (the fingerprint), "committed" or "released", order, milliseconds to keep the
--       answer, the hold's number.
local known = redis.call('GET', KEYS[1])
if known then
  local space = string.find(known, ' ', 1, true)
  if string.sub(known, space + 1) ~= ARGV[1] then return 'reused' end
  return 'ok ' .. string.sub(known, 1, space - 1)
end
local hold = redis.call('HMGET', KEYS[4], 'state', 'cart')
if not hold[1] then return 'unknown_hold' end
if hold[1] ~= 'held' then return 'wrong_state' end
local into = ARGV[2] == 'committed' and 'committed' or 'available'
for sku, units in string.gmatch(hold[2], '([^,=]+)=(%d+)') do
  redis.call('HINCRBY', 'stock:' .. sku, 'held', -tonumber(units))
  redis.call('HINCRBY', 'stock:' .. sku, into, units)
end
redis.call('HSET', KEYS[4], 'state', ARGV[2], 'order', ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[5])
redis.call('XADD', KEYS[3], '*', 'kind', ARGV[2], 'key', KEYS[1], 'cart', hold[2], 'hold', ARGV[5])
redis.call('SET', KEYS[1], ARGV[5] .. ' ' .. ARGV[1], 'PX', ARGV[4])
return 'ok ' .. ARGV[5]
