-- Holds a cart, or sells it in one step: all lines or none, once under its key.
-- KEYS: the key's answer, overdue holds by deadline, the outbox, the last hold's number, a stock a line.
-- ARGV: what is asked (the fingerprint), "held" or "ordered", customer, milliseconds to hold, order,
--       the cart as text, milliseconds to keep the answer, then the units of each line.
local known = redis.call('GET', KEYS[1])
if known then
  local space = string.find(known, ' ', 1, true)
  if string.sub(known, space + 1) ~= ARGV[1] then return 'reused' end
  return 'ok ' .. string.sub(known, 1, space - 1)
end
for line = 1, #KEYS - 4 do
  local available = redis.call('HGET', KEYS[4 + line], 'available')
  if not available then return 'unknown_sku' end
  if tonumber(available) < tonumber(ARGV[7 + line]) then return 'sold_out' end
end
local held = ARGV[2] == 'held'
local into = held and 'held' or 'committed'
for line = 1, #KEYS - 4 do
  redis.call('HINCRBY', KEYS[4 + line], 'available', -tonumber(ARGV[7 + line]))
  redis.call('HINCRBY', KEYS[4 + line], into, ARGV[7 + line])
end
local id = tostring(redis.call('INCR', KEYS[4]))
redis.call('HSET', 'hold:' .. id, 'state', into, 'customer', ARGV[3], 'order', ARGV[5], 'cart', ARGV[6])
if held then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[4]), id)
end
redis.call('XADD', KEYS[3], '*', 'kind', ARGV[2], 'key', KEYS[1], 'cart', ARGV[6], 'hold', id)
redis.call('SET', KEYS[1], id .. ' ' .. ARGV[1], 'PX', ARGV[7])
return 'ok ' .. id
