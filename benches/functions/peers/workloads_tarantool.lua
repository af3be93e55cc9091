-- What the load generator runs on Tarantool: its set-up, and the functions of ../workloads as global functions.
-- LUGE_BENCH_LISTEN and LUGE_BENCH_WAL say where it listens and how durable a write is.

local json = require('json')

box.cfg {
    listen = os.getenv('LUGE_BENCH_LISTEN'),
    wal_mode = os.getenv('LUGE_BENCH_WAL'),
    memtx_memory = 1024 * 1024 * 1024,
    -- The time a checkpoint takes is in no peer's figures.
    checkpoint_interval = 0,
    log_level = 'warn',
    -- As many requests of one connection at once as the generator sends, instead of 768 of all.
    net_msg_max = 16384,
}

-- The first space has the number 512, which the generator's requests name.
local values = box.schema.space.create('values', { id = 512 })
values:create_index('primary', { parts = { { 1, 'string' } } })
local board = box.schema.space.create('board', { id = 513 })
board:create_index('primary', { parts = { { 1, 'unsigned' } } })

function noop()
    return ''
end

function transfer(from, to, amount)
    box.begin()
    local payer, payee = values:get(from), values:get(to)
    if payer == nil or payee == nil then
        box.rollback()
        error('unknown')
    end
    local left = tonumber(payer[2]) - amount
    if left < 0 then
        box.rollback()
        error('short')
    end
    values:replace { from, tostring(left) }
    values:replace { to, tostring(tonumber(payee[2]) + amount) }
    box.commit()
    return left
end

function incr(key)
    local before = values:get(key)
    local number = (before and tonumber(before[2]) or 0) + 1
    values:replace { key, tostring(number) }
    return number
end

function leaderboard(from)
    local names = {}
    local first = tonumber(string.sub(from, 7))
    for _, row in board:pairs({ first }, { iterator = 'GE' }) do
        names[#names + 1] = row[2]
        if #names == 100 then
            break
        end
    end
    return names
end

function load_leaderboard(first, count)
    box.begin()
    for number = first, first + count - 1 do
        board:replace { number * 3, string.format('player:%012d', number) }
    end
    box.commit()
    return ''
end

local function check(text)
    local read, value = pcall(json.decode, text)
    return read and type(value) == 'table' and value.name ~= nil and value.age ~= nil
end

function validate(text)
    if not check(text) then
        error('not valid')
    end
    return 'valid'
end

function checked_set(key, value)
    if not check(value) then
        error('not valid')
    end
    values:replace { key, value }
end

function spin(factor)
    local sum = 0
    for step = 1, 10000 do
        sum = sum + step * factor % 7
    end
    return sum
end

function filter(group)
    local found = {}
    local seen = 0
    for _, row in values:pairs({ group .. ':' }, { iterator = 'GE' }) do
        if string.sub(row[2], 1, 2) == '42' then
            found[#found + 1] = row[2]
        end
        seen = seen + 1
        if seen == 1000 then
            break
        end
    end
    return found
end

function load_filter(group)
    box.begin()
    for number = 0, 999 do
        local value = string.format('%02d:%061d', number % 100, number)
        values:replace { string.format('%s:%04d', group, number), value }
    end
    box.commit()
    return ''
end

box.schema.user.grant('guest', 'super', nil, nil, { if_not_exists = true })
