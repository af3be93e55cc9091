//! The example modules of `udfs/examples`, as they are built and committed, do what they promise.
//!
//! `LUGE_BUILT_MODULES` names another folder with built modules, such as one that `udfs/build.sh` has
//! just filled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use luge_protocol::{Call, Command, ErrorCode, HookOverride, LimitsRequest, Options, Reply};
use luge_server::config::Config;
use luge_server::store::{MemoryStore, Store};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::support::{
    ManualClock, Push, START_MS, Talk, check, open_embedded, open_memory, runtime,
};

pub(crate) fn udfs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../udfs")
}

/// A built module, under the name of its crate.
pub(crate) fn built(name: &'static str) -> Push {
    let folder = std::env::var_os("LUGE_BUILT_MODULES")
        .map_or_else(|| udfs().join("examples/built"), PathBuf::from);
    let file = folder.join(format!("{}.wasm", name.replace('-', "_")));
    let wasm = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Push {
        name,
        wasm: Some(wasm),
        ..Push::default()
    }
}

impl Push {
    pub(crate) fn config(mut self, key: &str, value: &str) -> Self {
        let config = self.config.get_or_insert_default();
        config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// All hooks of the module, for keys with this prefix only.
    pub(crate) fn prefix(self, prefix: &'static str) -> Self {
        let change = HookOverride {
            prefix: Some(prefix.into()),
            ..HookOverride::default()
        };
        Self {
            overrides: Some(vec![change]),
            ..self
        }
    }
}

#[test]
fn every_example_has_a_test_here() {
    let examples = udfs().join("examples");
    let modules = std::fs::read_dir(&examples).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).ok()?;
        let name = path.file_name()?.to_str()?.to_owned();
        // What is no cdylib is a library for the others.
        manifest.contains("\"cdylib\"").then_some(name)
    });
    let modules: BTreeSet<String> = modules.collect();
    assert!(modules.len() >= 9, "found {modules:?}");
    let tests = concat!(include_str!("guests.rs"), include_str!("languages.rs"));
    let untested: Vec<&String> = modules
        .iter()
        .filter(|name| !tests.contains(&format!("built(\"{name}\")")))
        .collect();
    assert!(untested.is_empty(), "no test for {untested:?}");
}

#[test]
fn the_json_validator_says_where_a_value_is_wrong() {
    check(
        &[built("json-validator")],
        r#"
        > set json:1 {"name":"Anna",}
        blocked: the value of json:1 is not JSON: line 1, column 16 (byte 15): expected a name in double quotes
        > set json:1 {"name":"Anna"}
        v2
        > set json:1 plain
        blocked: the value of json:1 is not JSON: line 1, column 1 (byte 0): expected a value
        > get json:1
        {"name":"Anna"} v2
        > set text:1 nonsense
        v3
        > batch set json:2 [1,2]; set json:3 [1,2
        blocked: the value of json:3 is not JSON: line 1, column 5 (byte 4): the text ends too early
        > scan json:
        json:1={"name":"Anna"}
        > incr json:n
        1 v4
    "#,
    );
}

#[test]
fn the_json_validator_names_the_members_that_are_missing() {
    let validator = built("json-validator")
        .config("required", "name,mail")
        .prefix("user:");
    check(
        &[validator],
        r#"
        > set user:1 {"name":"Anna"}
        blocked: the value of user:1 lacks mail
        > set user:1 []
        blocked: the value of user:1 lacks name, mail
        > set user:1 {"mail":"a@b","name":"Anna"}
        v2
        > set json:1 nonsense
        v3
    "#,
    );
}

#[test]
fn the_audit_log_tells_who_changed_what_from_what_and_how_it_ended() {
    check(
        &[built("audit-log").prefix("user:")],
        r#"
        > set user:1 old
        v2
        > scan audit:
        audit:000000001000000:…:0000={"time_ms":1000000,"who":"peer:127.0.0.1","command":"set","key":"user:1","from":null,"to":"old","outcome":"ok"}
        > del --range audit: audit;
        deleted 1
        > set user:1 new --ttl 5000
        v4
        > scan audit:
        …"command":"set","key":"user:1","from":"old","to":"new","ttl_ms":5000,"outcome":"ok"}
        > del --range audit: audit;
        deleted 1
        > set user:1 third --if absent
        precondition_failed: the key is of version 4, and should be absent
        > scan audit:
        …"command":"set","key":"user:1","from":"new","to":"third","outcome":"error","error":"precondition_failed"}
        > del --range audit: audit;
        deleted 1
        > expire user:1 100
        true
        > scan audit:
        …"command":"expire","key":"user:1","from":"new","ttl_ms":100,"outcome":"ok"}
        > del --range audit: audit;
        deleted 1
        > del user:1
        deleted 1
        > scan audit:
        …"command":"del","key":"user:1","from":"new","to":null,"outcome":"ok"}
        > del --range audit: audit;
        deleted 1
        > set other 1
        v12
        > get user:1
        nil
        > scan audit:
        nothing
    "#,
    );
}

#[test]
fn the_audit_log_is_in_the_order_of_time_and_of_the_parts_of_a_request() {
    check(
        &[built("audit-log").prefix("k")],
        r#"
        > batch set k1 a; set k2 b; incr k3
        v2, v2, 1 v2
        ~ 5ms
        > del k1 k2
        deleted 2
        > scan audit:
        audit:000000001000000:…:0000=…"key":"k1"… audit:000000001000000:…:0001=…"key":"k2"… audit:000000001000000:…:0002=…"command":"batch","key":"k3","from":null,"to":"1"… audit:000000001000005:…:0000=…"key":"k1","from":"a"… audit:000000001000005:…:0001=…"key":"k2","from":"b"…
    "#,
    );
}

#[test]
fn the_audit_log_keeps_what_hooks_refused_and_lets_entries_expire() {
    let audit = built("audit-log").config("keep_ms", "1000").prefix("json:");
    check(
        &[audit, built("json-validator")],
        r#"
        > set json:1 nonsense
        blocked: …
        > scan audit:
        …"key":"json:1","from":null,"to":"nonsense","outcome":"blocked","error":"blocked"}
        ~ 1000ms
        > scan audit:
        nothing
    "#,
    );
}

#[test]
fn the_masker_hides_a_value_on_every_way_out() {
    check(
        &[built("masker")],
        "
        > set card:1 4111111111111234
        v2
        > get card:1
        ************1234 v2
        > get card:2
        nil
        > mget card:1 card:2
        ************1234 v2, nil
        > scan card:
        card:1=************1234
        > scan --keys
        card:1
        > batch get card:1
        ************1234 v2
        > set card:1 4222222222225678 --old
        v3 was ************1234
        > set card:n 123456
        v4
        > incr card:n
        - v5
        > get card:n
        **3457 v5
        > set other 4111111111111234
        v6
        > get other
        4111111111111234 v6
    ",
    );
}

#[test]
fn the_masker_hides_one_field_and_functions_see_the_whole() {
    let masker = built("masker")
        .config("field", "iban")
        .config("keep_last", "2")
        .prefix("user:");
    let sums = built("masker").config("keep_last", "1").prefix("order:");
    let sums = Push {
        name: "masker-of-orders",
        ..sums
    };
    check(
        &[masker, sums, built("greeter")],
        r#"
        > set user:1 {"name":"Anna","iban":"DE5678"}
        v…
        > get user:1
        {"name":"Anna","iban":"****78"} v…
        > batch set order:1 40; set order:2 60
        v…
        > get order:1
        *0 v…
        > get virtual:sum:order:
        100 v0
    "#,
    );
}

#[test]
fn text_is_transformed() {
    check(
        &[built("text")],
        r#"
        > call text.process {"input":"hello","transform":"uppercase"}
        {"output":"HELLO"}
        > call text.process {"transform":"slug","input":"Hello, World! 2×"}
        {"output":"hello-world-2"}
        > call text.process ["Straße","reverse"]
        {"output":"eßartS"}
        > call text.process {"input":"hello","transform":"rot13"}
        rejected: text.process refused with the code 1 {"known":["uppercase","lowercase","capitalize","reverse","trim","squeeze","slug"],"message":"unknown transform","transform":"rot13"}
        > call text.process {"input":"hello"}
        rejected: text.process refused with the code -1 "arguments: missing field `transform`"
        > call text.process plain
        rejected: text.process refused with the code -1 "arguments: …
    "#,
    );
}

#[test]
fn a_transfer_moves_money() {
    check(
        &[built("bank")],
        r#"
        > call bank.open {"account":"anna","deposit":1000}
        1000
        > call bank.open {"account":"ben"}
        …
        > call bank.transfer {"from":"anna","to":"ben","amount":300}
        {"from_balance":700,"to_balance":300}
        > scan bank:
        bank:anna=700 bank:ben=300
        > call bank.balance "anna"
        700
    "#,
    );
}

#[test]
fn a_refused_transfer_says_why_and_leaves_no_trace() {
    check(
        &[built("bank")],
        r#"
        > call bank.open {"account":"anna","deposit":1000}
        1000
        > call bank.open {"account":"rich","deposit":9223372036854775807}
        9223372036854775807
        > call bank.transfer {"from":"anna","to":"ben","amount":300}
        rejected: bank.transfer refused with the code 10 {"account":"ben","reason":"unknown_account"}
        > call bank.transfer {"from":"anna","to":"rich","amount":1001}
        rejected: bank.transfer refused with the code 13 {"amount":1001,"balance":1000,"reason":"insufficient_funds"}
        > call bank.transfer {"from":"anna","to":"rich","amount":1}
        rejected: bank.transfer refused with the code 15 {"account":"rich","reason":"balance_overflow"}
        > call bank.transfer {"from":"rich","to":"anna","amount":-1}
        rejected: bank.transfer refused with the code 12 {"amount":-1,"reason":"amount_not_positive"}
        > call bank.transfer {"from":"anna","to":"anna","amount":1}
        rejected: bank.transfer refused with the code 14 {"account":"anna","reason":"same_account"}
        > call bank.open {"account":"anna"}
        rejected: bank.open refused with the code 11 {"account":"anna","reason":"account_exists"}
        > call bank.balance "ben"
        rejected: bank.balance refused with the code 10 {"account":"ben","reason":"unknown_account"}
        > scan
        bank:anna=1000 bank:rich=9223372036854775807
        > call bank.transfer {"from":"anna","to":"rich","amount":1} --fuel 100
        fuel_exhausted: bank.transfer: the function used up its fuel of 100 (`fuel` of its push or call)
    "#,
    );
}

#[test]
fn a_balance_changes_through_the_bank_alone() {
    check(
        &[built("bank")],
        r#"
        > call bank.open {"account":"anna","deposit":1000}
        1000
        > set bank:anna 1000000
        blocked: balances change through bank.open and bank.transfer alone
        > incr bank:anna 5
        blocked: balances change through bank.open and bank.transfer alone
        > del --range bank: bank;
        blocked: balances change through bank.open and bank.transfer alone
        > batch set other 1; expire bank:anna 5
        blocked: balances change through bank.open and bank.transfer alone
        > scan
        bank:anna=1000
    "#,
    );
}

#[test]
fn the_leaderboard_keeps_the_best_score_of_each_player_in_order() {
    check(
        &[built("leaderboard")],
        r#"
        > call leaderboard.submit {"board":"run","player":"anna","score":420}
        {"best":420,"improved":true}
        > call leaderboard.submit {"board":"run","player":"ben","score":-7}
        {"best":-7,"improved":true}
        > call leaderboard.submit {"board":"run","player":"carl","score":9000}
        {"best":9000,"improved":true}
        > call leaderboard.submit {"board":"run","player":"anna","score":100}
        {"best":420,"improved":false}
        > call leaderboard.submit {"board":"other","player":"dora","score":1}
        {"best":1,"improved":true}
        > call leaderboard.top {"board":"run"}
        [{"player":"carl","rank":1,"score":9000},{"player":"anna","rank":2,"score":420},{"player":"ben","rank":3,"score":-7}]
        > call leaderboard.submit {"board":"run","player":"ben","score":9001}
        {"best":9001,"improved":true}
        > call leaderboard.top {"board":"run","count":1}
        [{"player":"ben","rank":1,"score":9001}]
        > call leaderboard.rank {"board":"run","player":"anna"}
        {"player":"anna","rank":3,"score":420}
        > call leaderboard.rank {"board":"run","player":"dora"}
        rejected: leaderboard.rank refused with the code 1 {"player":"dora","reason":"unknown_player"}
        > call leaderboard.top {"board":"a:b"}
        rejected: leaderboard.top refused with the code 1 {"board":"a:b","reason":"board_with_colon"}
    "#,
    );
}

#[test]
fn the_greeter_answers_computed_keys_by_itself() {
    check(
        &[built("greeter")],
        "
        > get virtual:hello:Anna
        Hello, Anna! v0
        > get virtual:now
        1970-01-01T00:16:40.000Z v0
        ~ 250ms
        > get virtual:now
        1970-01-01T00:16:40.250Z v0
        > get virtual:whoami
        127.0.0.1 v0
        > get virtual:nothing
        nil
        > batch set order:1 40; set order:2 2
        v2, v2
        > mget virtual:sum:order: virtual:hello order:1
        42 v0, Hello, world! v0, 40 v2
        > set order:3 many
        v3
        > get virtual:sum:order:
        blocked: cannot add order:3
        > set virtual:now 1
        blocked: keys under virtual: are computed
        > scan virtual:
        nothing
    ",
    );
}

/// One case of `udfs/sdk/cases`; the README there says what the fields mean.
#[derive(Deserialize)]
struct Case {
    name: String,
    calls: Vec<Json>,
}

/// What the guest found.
#[derive(Deserialize)]
struct Report {
    failures: Vec<String>,
}

#[test]
fn the_shared_cases_hold_on_the_memory_store() {
    run_cases(|clock| MemoryStore::new([1; 16], Box::new(clock)));
}

#[test]
fn the_shared_cases_hold_on_sled() {
    let folder = tempfile::tempdir().unwrap();
    let mut stores = 0;
    run_cases(|clock| {
        stores += 1;
        open_embedded(&folder.path().join(stores.to_string()), clock)
    });
}

/// Runs every file of cases on a store of its own, call after call.
fn run_cases<S: Store>(mut open: impl FnMut(ManualClock) -> S) {
    let entries = std::fs::read_dir(udfs().join("sdk/cases")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "json")
    });
    files.sort();
    assert!(files.len() >= 5, "found {files:?}");
    let runtime = runtime();
    let mut wrong = Vec::new();
    for file in files {
        let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let clock = ManualClock::at(START_MS);
        let store = open(clock.clone());
        let config = Config {
            max_instances: 16,
            ..Config::default()
        };
        runtime.block_on(async {
            let mut talk = Talk::new(store, &config, clock).await;
            talk.push(&built("conformance")).await.unwrap();
            for case in &cases {
                for (at, call) in case.calls.iter().enumerate() {
                    if let Err(difference) = run_case_call(&mut talk, call).await {
                        let file = file.file_name().unwrap().display();
                        wrong.push(format!("{file}, {}, call {at}: {difference}", case.name));
                    }
                }
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The allocator of the SDK takes what the initial memory has left, and grows behind it.
#[test]
fn a_guests_allocations_keep_what_was_written_into_them() {
    runtime().block_on(async {
        let clock = ManualClock::at(START_MS);
        let store = open_memory(&clock);
        let mut talk = Talk::new(store, &Config::default(), clock).await;
        let mut push = built("conformance");
        push.limits = Some(LimitsRequest {
            fuel: Some(10_000_000_000),
            cpu_ms: Some(5_000),
            deadline_ms: Some(60_000),
            ..LimitsRequest::default()
        });
        talk.push(&push).await.unwrap();
        let command = Command::Call(Call {
            procedure: "conformance.allocate".into(),
            arguments: rmp_serde::to_vec(&10_000_u32).unwrap().into(),
            dry_run: None,
            limits: None,
        });
        let told = talk.ask("", command, Options::default()).await.unwrap();
        let Reply::Call(output) = told else {
            panic!("{told:?}")
        };
        let total: u64 = rmp_serde::from_slice(&output.0).unwrap();
        assert!(total > 1_000_000, "{total}");
    });
}

async fn run_case_call<S: Store>(talk: &mut Talk<S>, call: &Json) -> Result<(), String> {
    let text = |field: &str, default: &'static str| {
        let text = call.get(field).and_then(Json::as_str);
        text.unwrap_or(default).to_owned()
    };
    let command = Command::Call(Call {
        procedure: format!("conformance.{}", text("procedure", "run")).into(),
        arguments: rmp_serde::to_vec_named(call).unwrap().into(),
        dry_run: None,
        limits: None,
    });
    let outcome = talk.ask("", command, Options::default()).await;
    let ends = text("ends", "done");
    match (&*ends, outcome) {
        ("done", Ok(Reply::Call(output))) => no_failures(&output.0),
        ("rejected", Err(error)) if error.code() == ErrorCode::Rejected => {
            let details = error.details();
            let wanted = call.get("refuse").and_then(Json::as_i64);
            if details.code.map(i64::from) != wanted {
                return Err(format!(
                    "it refused with {:?}, not {wanted:?}",
                    details.code
                ));
            }
            no_failures(&details.payload.unwrap_or_default())
        }
        ("trap" | "forbidden", Err(error))
            if error.code().name() == ends
                && error
                    .message()
                    .contains(&format!(" {}: ", text("function", "?"))) =>
        {
            Ok(())
        }
        (ends, outcome) => Err(format!("expected {ends}, found {outcome:?}")),
    }
}

fn no_failures(report: &[u8]) -> Result<(), String> {
    let report: Report = rmp_serde::from_slice(report).map_err(|error| error.to_string())?;
    match report.failures {
        failures if failures.is_empty() => Ok(()),
        failures => Err(failures.join("; ")),
    }
}

#[test]
fn every_built_module_is_shown_with_what_it_says_of_itself() {
    let expected = BTreeMap::from([
        ("audit-log", "hooks audit"),
        ("bank", "procedures balance open transfer, hooks guard"),
        ("conformance", "procedures allocate run run_read_only"),
        ("greeter", "hooks answer refuse"),
        ("json-validator", "hooks validate"),
        ("leaderboard", "procedures rank submit top"),
        ("masker", "hooks mask"),
        ("rate-limiter", "hooks guard limit"),
        ("text", "procedures process"),
    ]);
    runtime().block_on(async {
        let clock = ManualClock::at(START_MS);
        let store = MemoryStore::new([1; 16], Box::new(clock.clone()));
        let config = Config {
            max_instances: 16,
            ..Config::default()
        };
        let mut talk = Talk::new(store, &config, clock).await;
        for (name, offered) in expected {
            let Ok(Reply::Module(module)) = talk.push(&built(name)).await else {
                panic!("{name} is refused");
            };
            let procedures: Vec<&str> = module.procedures.iter().map(|it| &*it.procedure).collect();
            let hooks: Vec<&str> = module.hooks.iter().map(|it| &*it.hook).collect();
            let kinds = [("procedures", procedures), ("hooks", hooks)];
            let found: Vec<String> = kinds
                .iter()
                .filter(|(_, names)| !names.is_empty())
                .map(|(kind, names)| format!("{kind} {}", names.join(" ")))
                .collect();
            assert_eq!(found.join(", "), offered, "{name}");
            assert!(
                !module.description.is_empty(),
                "{name} says nothing of itself"
            );
            assert_eq!(module.warnings, Vec::<String>::new(), "{name}");
        }
    });
}
