//! The functions that `luge-bench` calls on Luge, written as an author would write them. What the peers run
//! instead lies beside it, in `peers/`: the same names, the same arguments, the same answers.

use luge_udf::{Block, Request, hook, kv, procedure};

luge_udf::module! { description = "The functions of the load generator's workloads" }

/// Does nothing.
#[procedure]
fn noop() {}

/// Moves an amount between two accounts; answers what is left on the one that paid.
#[procedure]
fn transfer(order: (&str, &str, i64)) -> Result<i64, String> {
    let (from, to, amount) = order;
    let payer = balance(from)?;
    let payee = balance(to)?;
    if payer < amount {
        return Err("short".to_owned());
    }
    kv::set_number(from, payer - amount);
    kv::set_number(to, payee + amount);
    Ok(payer - amount)
}

fn balance(account: &str) -> Result<i64, String> {
    let balance = kv::number(account).map_err(|_| "unreadable".to_owned())?;
    balance.ok_or_else(|| "unknown".to_owned())
}

/// Adds one to a number, which is absent at first.
#[procedure]
fn incr(key: &str) -> Result<i64, String> {
    kv::incr(key, 1).map_err(|_| "unreadable".to_owned())
}

/// Lists the hundred players from a score on.
#[procedure(read_only)]
fn leaderboard(from: &str) -> Vec<String> {
    let mut keys = kv::range(from..BOARD_END).limit(100).keys();
    let mut players = Vec::with_capacity(100);
    while let Some(key) = keys.next_borrowed() {
        // board:<12 digits of the score>:<player>
        let player = key.get("board:".len() + 13..).unwrap_or_default();
        players.push(str::from_utf8(player).unwrap_or_default().to_owned());
    }
    players
}

/// What sorts behind every key that begins with `board:`.
const BOARD_END: &str = "board;";

/// Puts players on the board, the one of this number first: a score is three times the number.
#[procedure]
fn load_leaderboard(players: (u64, u64)) {
    let (first, count) = players;
    for number in first..first + count {
        kv::set(format!("board:{:012}:player:{number:012}", number * 3), "");
    }
}

/// Checks that a text is JSON, and that its object has a name and an age.
#[procedure(read_only)]
fn validate(text: &str) -> Result<&'static str, &'static str> {
    check(text.as_bytes()).map(|()| "valid")
}

/// Refuses a value that `validate` would refuse.
#[hook(request, commands = "set", prefix = "hook:")]
fn checked_set(request: &Request) -> Result<(), Block> {
    check(&request.value().unwrap_or_default()).map_err(Into::into)
}

fn check(text: &[u8]) -> Result<(), &'static str> {
    let members = json_text::check(text).map_err(|_| "not JSON")?;
    let has = |name: &str| members.iter().any(|member| member.name == name);
    if has("name") && has("age") {
        Ok(())
    } else {
        Err("a member is missing")
    }
}

/// Ten thousand steps of integer arithmetic: a product, its remainder, a sum.
#[procedure(read_only)]
fn spin(factor: u32) -> u32 {
    let mut sum = 0;
    for step in 1..=10_000 {
        sum += step * factor % 7;
    }
    sum
}

/// Finds the ten of a group's thousand values that begin with two digits.
#[procedure(read_only)]
fn filter(group: &str) -> Vec<String> {
    let mut entries = kv::prefix(group).limit(1000).entries();
    let mut found = Vec::new();
    while let Some((_, value)) = entries.next_borrowed() {
        if value.starts_with(b"42") {
            found.push(str::from_utf8(value).unwrap_or_default().to_owned());
        }
    }
    found
}

/// Writes a group's thousand values, of 64 bytes each.
#[procedure]
fn load_filter(group: &str) {
    for number in 0..1000 {
        let value = format!("{:02}:{number:061}", number % 100);
        kv::set(format!("{group}:{number:04}"), value);
    }
}
