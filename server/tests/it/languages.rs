//! One module in two languages: whatever language it is written in, a guest is loaded in the same way and
//! does the same. The cases are a table, which every build of the rate limiter passes.
//!
//! `LUGE_BUILT_GO_MODULES` names the folder that `udfs/go/build.sh` has filled; its modules are too large
//! to be committed, and without it only the module of Rust is run.

use std::collections::BTreeMap;

use luge_protocol::Isolation;
use serde::Deserialize;

use crate::guests::built;
use crate::support::{Push, check};

const RATE_LIMITER: &str = include_str!("languages/rate_limiter.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// The prefix of all of its hooks, in place of their own.
    #[serde(borrow)]
    prefix: Option<&'static str>,
    /// A module in the text form that is pushed beside it, as `refuse`.
    #[serde(default)]
    beside: Vec<String>,
    transcript: Vec<String>,
}

/// The rate limiter as each language has it. The first is always there.
fn rate_limiters() -> Vec<(&'static str, Push)> {
    let mut found = vec![("Rust", built("rate-limiter"))];
    if let Some(folder) = std::env::var_os("LUGE_BUILT_GO_MODULES") {
        let file = std::path::Path::new(&folder).join("rate_limiter.wasm");
        let wasm = std::fs::read(&file);
        let wasm = wasm.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let push = Push {
            name: "rate-limiter",
            wasm: Some(wasm),
            ..Push::default()
        };
        found.push(("Go", push));
    }
    found
}

fn pushed(limiter: &Push, case: &Case, isolation: Isolation) -> Vec<Push> {
    let mut push = limiter.clone();
    push.isolation = Some(isolation);
    for (name, value) in &case.config {
        push = push.config(name, value);
    }
    if let Some(prefix) = case.prefix {
        push = push.prefix(prefix);
    }
    let beside = Push::new("refuse", case.beside.join("\n"));
    [push]
        .into_iter()
        .chain((!case.beside.is_empty()).then_some(beside))
        .collect()
}

#[test]
fn the_rate_limiter_does_the_same_in_every_language_in_fresh_instances_and_in_kept_ones() {
    let cases: Vec<Case> = serde_json::from_str(RATE_LIMITER).unwrap();
    assert!(cases.len() >= 6);
    for (language, limiter) in rate_limiters() {
        for case in &cases {
            for isolation in [Isolation::Fresh, Isolation::Reuse] {
                // What fails below is told with this.
                eprintln!("{language}, {isolation:?}: {}", case.name);
                check(
                    &pushed(&limiter, case, isolation),
                    &case.transcript.join("\n"),
                );
            }
        }
    }
}
