#!lua name=workloads
-- What the load generator calls on Redis and Valkey: the functions of ../workloads, as their users write them.

local function noop()
    return ''
end

local function transfer(keys, arguments)
    local amount = tonumber(arguments[1])
    local payer = redis.call('GET', keys[1])
    local payee = redis.call('GET', keys[2])
    if not payer or not payee then
        return redis.error_reply('REFUSED unknown')
    end
    payer, payee = tonumber(payer), tonumber(payee)
    if payer < amount then
        return redis.error_reply('REFUSED short')
    end
    redis.call('SET', keys[1], payer - amount)
    redis.call('SET', keys[2], payee + amount)
    return payer - amount
end

local function incr(keys)
    return redis.call('INCRBY', keys[1], 1)
end

-- A sorted set with scores: what such a server has for it.
local function leaderboard(keys, arguments)
    local from = tonumber(string.sub(keys[1], 7))
    return redis.call('ZRANGE', 'board', from, '+inf', 'BYSCORE', 'LIMIT', 0, 100)
end

local function load_leaderboard(keys, arguments)
    local first, count = tonumber(arguments[1]), tonumber(arguments[2])
    for number = first, first + count - 1 do
        redis.call('ZADD', 'board', number * 3, string.format('player:%012d', number))
    end
    return ''
end

local function check(text)
    local read, value = pcall(cjson.decode, text)
    return read and type(value) == 'table' and value.name ~= nil and value.age ~= nil
end

local function validate(keys, arguments)
    if not check(arguments[1]) then
        return redis.error_reply('REFUSED not valid')
    end
    return 'valid'
end

local function checked_set(keys, arguments)
    if not check(arguments[1]) then
        return redis.error_reply('REFUSED not valid')
    end
    return redis.call('SET', keys[1], arguments[1])
end

local function spin(keys, arguments)
    local factor, sum = tonumber(arguments[1]), 0
    for step = 1, 10000 do
        sum = sum + step * factor % 7
    end
    return sum
end

-- A group is a hash, since there is no range over keys.
local function filter(keys)
    local found = {}
    for _, value in ipairs(redis.call('HVALS', keys[1])) do
        if string.sub(value, 1, 2) == '42' then
            found[#found + 1] = value
        end
    end
    return found
end

local function load_filter(keys)
    for number = 0, 999 do
        local value = string.format('%02d:%061d', number % 100, number)
        redis.call('HSET', keys[1], string.format('%04d', number), value)
    end
    return ''
end

-- YCSB's workload E: the keys are in a sorted set beside the values, as YCSB's own binding has them.
local function insert(keys, arguments)
    redis.call('SET', keys[1], arguments[1])
    redis.call('ZADD', 'keys', 0, keys[1])
    return ''
end

local function scan(keys, arguments)
    local found = redis.call('ZRANGE', 'keys', '[' .. keys[1], '+', 'BYLEX', 'LIMIT', 0, tonumber(arguments[1]))
    return redis.call('MGET', unpack(found))
end

redis.register_function('noop', noop)
redis.register_function('transfer', transfer)
redis.register_function('incr', incr)
redis.register_function { function_name = 'leaderboard', callback = leaderboard, flags = { 'no-writes' } }
redis.register_function('load_leaderboard', load_leaderboard)
redis.register_function { function_name = 'validate', callback = validate, flags = { 'no-writes' } }
redis.register_function('checked_set', checked_set)
redis.register_function { function_name = 'spin', callback = spin, flags = { 'no-writes' } }
redis.register_function { function_name = 'filter', callback = filter, flags = { 'no-writes' } }
redis.register_function('load_filter', load_filter)
redis.register_function('insert', insert)
redis.register_function { function_name = 'scan', callback = scan, flags = { 'no-writes' } }
