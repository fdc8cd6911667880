-- Gives back what overdue holds hold; tells how many there were.
-- KEYS: overdue holds by deadline, the outbox. ARGV: the most that are looked at.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local overdue = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(overdue) do
  local hold = 'hold:' .. id
  local cart = redis.call('HGET', hold, 'cart')
  for sku, units in string.gmatch(cart, '([^,=]+)=(%d+)') do
    redis.call('HINCRBY', 'stock:' .. sku, 'held', -tonumber(units))
    redis.call('HINCRBY', 'stock:' .. sku, 'available', units)
  end
  redis.call('HSET', hold, 'state', 'expired')
  redis.call('ZREM', KEYS[1], id)
  redis.call('XADD', KEYS[2], '*', 'kind', 'expired', 'key', '', 'cart', cart, 'hold', id)
end
return #overdue
