//! Who changed what, from what to what, and how it ended.
//!
//! ```sh
//! luge module push audit-log audit_log.wasm --prefix user: --config keep_ms=2592000000
//! luge scan audit:
//! audit:001700000000000:9f86d081:0000  {"time_ms":1700000000000,"who":"user:anna","command":"set","key":"user:1",…}
//! ```
//!
//! Every `set`, `del` and `expire` of a client leaves an entry, in the same transaction: if the change is undone, so is
//! the entry, and if the entry cannot be written, there is no change. What hooks or the command itself refused is
//! written down, too, with its outcome.
//!
//! ```text
//! audit:<time in ms>:<random, one for each request>:<part of the request>
//! ```
//!
//! So a scan goes by time. A counter would order entries within a millisecond as well, but every change would wait for
//! every other. `keep_ms` lets entries expire. Values of more than 1000 bytes are cut, with their length.

mod json;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use luge_udf::{Command, Request, Response, Status, config, context, decimal, hook, kv};

use json::Object;

luge_udf::module! { description = "Writes down who changed what" }

/// Writes down a change, or the attempt at one.
#[hook(response, commands = "set, del, expire", order = -1000)]
fn audit(request: &Request, response: &mut Response) {
    let key = entry_key();
    let entry = entry(request, response);
    match config::number("keep_ms") {
        Some(keep_ms) => {
            kv::set_with_ttl(key, entry, Duration::from_millis(keep_ms.unsigned_abs()))
        }
        None => kv::set(key, entry),
    }
}

/// One instance serves all hooks of a request, so these tell its parts apart.
fn entry_key() -> String {
    static RANDOM: OnceLock<String> = OnceLock::new();
    static PART: AtomicU32 = AtomicU32::new(0);

    let random = RANDOM.get_or_init(|| json::hexadecimal(&luge_udf::random::<4>()));
    let part = PART.fetch_add(1, Ordering::Relaxed);
    [
        "audit",
        &padded(luge_udf::now_ms(), 15),
        random,
        &padded(part.into(), 4),
    ]
    .join(":")
}

fn padded(number: i64, width: usize) -> String {
    let digits = decimal::format(number);
    ["0".repeat(width.saturating_sub(digits.len())), digits].concat()
}

fn entry(request: &Request, response: &Response) -> String {
    let mut entry = Object::new();
    entry.number("time_ms", luge_udf::now_ms());
    entry.text("who", &who());
    entry.text(
        "command",
        &context::command().unwrap_or_else(|| name(request.command()).to_owned()),
    );
    entry.bytes("key", Some(&request.key()));
    entry.bytes("from", request.previous().as_deref());
    if request.command() == Command::Set {
        entry.bytes("to", request.value().as_deref());
    }
    if request.command() == Command::Del {
        entry.bytes("to", None);
    }
    if let Some(ttl) = request.ttl() {
        entry.number(
            "ttl_ms",
            match ttl {
                kv::Ttl::Never => 0,
                kv::Ttl::Left(time) => i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            },
        );
    }
    entry.text("outcome", outcome(response.status()));
    if let Some(error) = response.error() {
        entry.text("error", &error);
    }
    entry.finish()
}

fn who() -> String {
    match (context::user(), context::peer()) {
        (Some(user), _) => ["user:", &user].concat(),
        (None, Some(peer)) => ["peer:", &peer].concat(),
        (None, None) => "unknown".to_owned(),
    }
}

const fn name(command: Command) -> &'static str {
    match command {
        Command::Set => "set",
        Command::Del => "del",
        Command::Expire => "expire",
        _ => "other",
    }
}

const fn outcome(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Absent => "absent",
        Status::Error => "error",
        Status::Blocked => "blocked",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use luge_udf::testing::{Exchange, Host};

    use super::*;

    fn entries(host: &mut Host) -> Vec<serde_json::Value> {
        let entries = host.entries("audit:");
        entries
            .iter()
            .map(|(_, entry)| serde_json::from_str(entry).unwrap())
            .collect()
    }

    #[test]
    fn a_change_is_written_down_with_what_was_before() {
        let mut host = Host::new();
        host.set("user:1", "old");
        host.context.user = "anna".to_owned();
        host.hook::<audit>(&Exchange::set("user:1", "new \"name\"").ttl(Duration::from_secs(5)));
        assert_eq!(host.text("user:1").as_deref(), Some("new \"name\""));
        let expected = serde_json::json!([{
            "time_ms": 1_700_000_000_000_i64, "who": "user:anna", "command": "set", "key": "user:1",
            "from": "old", "to": "new \"name\"", "ttl_ms": 5000, "outcome": "ok",
        }]);
        assert_eq!(serde_json::Value::from(entries(&mut host)), expected);
    }

    #[test]
    fn entries_are_in_the_order_of_time() {
        let mut host = Host::new();
        host.hook::<audit>(&Exchange::set("a", "1"));
        host.advance(Duration::from_millis(1));
        host.hook::<audit>(&Exchange::del("a"));
        host.hook::<audit>(&Exchange::expire("a", Duration::from_secs(1)));
        let told: Vec<(String, String)> = entries(&mut host)
            .iter()
            .map(|entry| (entry["command"].to_string(), entry["outcome"].to_string()))
            .collect();
        let expected = [("set", "ok"), ("del", "ok"), ("expire", "absent")]
            .map(|(command, outcome)| (format!("{command:?}"), format!("{outcome:?}")));
        assert_eq!(told, expected);
    }

    #[test]
    fn what_was_refused_is_written_down_too() {
        let mut host = Host::new();
        host.set("a", "1");
        host.hook::<audit>(&Exchange::set("a", "2").failed("precondition_failed"));
        host.hook::<audit>(&Exchange::del("a").blocked());
        let told = entries(&mut host);
        assert_eq!(told[0]["error"], "precondition_failed");
        assert_eq!(told[1]["outcome"], "blocked");
        assert_eq!(host.text("a").as_deref(), Some("1"));
    }

    #[test]
    fn bytes_and_long_values_are_told_as_far_as_they_go() {
        let mut host = Host::new();
        host.set("a", [0xff, 0]);
        host.hook::<audit>(&Exchange::set("a", "é".repeat(501)));
        let told = entries(&mut host);
        assert_eq!(
            told[0]["from"],
            serde_json::json!({ "hex": "ff00", "bytes": 2 })
        );
        assert_eq!(
            told[0]["to"],
            serde_json::json!({ "text": "é".repeat(500), "bytes": 1002 })
        );
    }

    #[test]
    fn entries_expire_where_the_configuration_says_so() {
        let mut host = Host::new().with_config("keep_ms", "1000");
        host.hook::<audit>(&Exchange::set("a", "1"));
        assert_eq!(entries(&mut host).len(), 1);
        host.advance(Duration::from_secs(1));
        assert_eq!(entries(&mut host).len(), 0);
    }
}
