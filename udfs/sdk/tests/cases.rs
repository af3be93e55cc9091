//! Holds the store of `luge_udf::testing` to the shared cases, which the server's tests run as well.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails with a panic"
)]

#[path = "../../examples/conformance/src/lib.rs"]
mod conformance;

use conformance::{run, run_read_only};
use luge_udf::testing::{Host, Outcome};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Report {
    failures: Vec<String>,
}

fn text<'a>(call: &'a Value, field: &str, default: &'a str) -> &'a str {
    call.get(field).and_then(Value::as_str).unwrap_or(default)
}

/// What is wrong with how a call ended, if anything.
fn check(call: &Value, outcome: &Outcome) -> Vec<String> {
    let report = |bytes: &[u8]| {
        luge_udf::message_pack::decode::<Report>(bytes)
            .unwrap()
            .failures
    };
    let code = call.get("refuse").and_then(Value::as_i64);
    match (text(call, "ends", "done"), outcome) {
        ("done", Outcome::Done(output)) => report(output),
        (
            "rejected",
            Outcome::Refused {
                code: found,
                payload,
            },
        ) if code == Some((*found).into()) => report(payload),
        ("trap", Outcome::Trapped(message)) if message.starts_with(text(call, "function", "?")) => {
            Vec::new()
        }
        ("forbidden", Outcome::Trapped(message))
            if message.starts_with(text(call, "function", "?"))
                && message.contains("forbidden") =>
        {
            Vec::new()
        }
        (expected, outcome) => vec![format!("expected {expected}, found {outcome:?}")],
    }
}

fn check_file(cases: &str) {
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let mut failures = Vec::new();
    let mut host = Host::new();
    for case in &cases {
        for (index, call) in case["calls"].as_array().unwrap().iter().enumerate() {
            let outcome = match text(call, "procedure", "run") {
                "run" => host.call::<run>(call),
                "run_read_only" => host.call::<run_read_only>(call),
                other => panic!("the cases name an unknown procedure, {other}"),
            };
            let found = check(call, &outcome);
            failures.extend(
                found
                    .into_iter()
                    .map(|failure| format!("{}, call {index}: {failure}", case["name"])),
            );
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn values() {
    check_file(include_str!("../cases/values.json"));
}

#[test]
fn ttl() {
    check_file(include_str!("../cases/ttl.json"));
}

#[test]
fn numbers() {
    check_file(include_str!("../cases/numbers.json"));
}

#[test]
fn scans() {
    check_file(include_str!("../cases/scans.json"));
}

#[test]
fn transactions() {
    check_file(include_str!("../cases/transactions.json"));
}
