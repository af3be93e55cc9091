//! The command line against a real server: what it prints, where, and how it exits.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use luge_client::Client;
use luge_server::session::Role;
use luge_server::tokens::TokensFile;
use serde_json::{Value, json};

/// What a run of `luge` left behind.
struct Run {
    stdout: Vec<u8>,
    stderr: String,
    code: i32,
}

/// Runs `luge` in a thread of its own, so that the server in this process goes on.
async fn luge<const N: usize>(address: SocketAddr, arguments: [&str; N]) -> Run {
    luge_with_input(address, arguments, b"").await
}

async fn luge_with_input<const N: usize>(
    address: SocketAddr,
    arguments: [&str; N],
    input: &'static [u8],
) -> Run {
    run(program(address, arguments), input).await
}

/// The program, with no more in its environment than the server's address.
fn program<const N: usize>(address: SocketAddr, arguments: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_luge"));
    for name in ["LUGE_TOKEN", "LUGE_TOKEN_FILE", "LUGE_TLS", "LUGE_TLS_CA"] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .env("LUGE_ADDR", address.to_string());
    command
}

async fn run(mut command: Command, input: &'static [u8]) -> Run {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = run.await.unwrap();
    Run {
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

impl Run {
    /// Checks that it exits 0, is silent on standard error, and prints this.
    #[track_caller]
    fn prints(&self, expected: &str) {
        let stdout = String::from_utf8_lossy(&self.stdout);
        assert_eq!((&*stdout, &*self.stderr, self.code), (expected, "", 0));
    }

    /// Checks that it exits 1 and prints nothing anywhere.
    #[track_caller]
    fn is_absent(&self) {
        assert_eq!((&*self.stdout, &*self.stderr, self.code), (&b""[..], "", 1));
    }

    /// Checks that it exits 1 and says this, and more, on standard error alone.
    #[track_caller]
    fn fails(&self, beginning: &str) {
        assert_eq!((&*self.stdout, self.code), (&b""[..], 1), "{}", self.stderr);
        assert!(self.stderr.starts_with(beginning), "{}", self.stderr);
    }

    /// The one JSON document that was printed.
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!((&*self.stderr, self.code), ("", 0));
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

#[tokio::test]
async fn a_value_is_set_read_and_deleted() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let set = luge(address, ["set", "greeting", "hello"]).await;
    assert!(set.stdout.starts_with(b"ok (version "), "{:?}", set.stderr);
    luge(address, ["get", "greeting"]).await.prints("hello\n");
    luge(address, ["exists", "greeting", "other"])
        .await
        .prints("1\n");
    luge(address, ["del", "greeting", "other"])
        .await
        .prints("1\n");
    luge(address, ["get", "greeting"]).await.is_absent();
}

#[tokio::test]
async fn all_keys_of_a_prefix_are_deleted_and_no_others() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let client = Client::connect(address).await.unwrap();
    for number in 0..1_002 {
        client.set(format!("a:{number}"), "x").await.unwrap();
    }
    for key in ["a", "a;", "b"] {
        client.set(key, "x").await.unwrap();
    }
    luge(address, ["del", "--prefix", "a:"])
        .await
        .prints("1002\n");
    luge(address, ["scan", "--keys"]).await.prints("a\na;\nb\n");
    let every = luge(address, ["del", "--prefix", ""]).await;
    assert_eq!(every.code, 2);
    assert!(
        every.stderr.contains("at least one byte"),
        "{}",
        every.stderr
    );
    luge(address, ["scan", "--keys"]).await.prints("a\na;\nb\n");
}

#[tokio::test]
async fn bytes_go_through_a_pipe_unchanged() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let client = Client::connect(address).await.unwrap();
    client.set("image", b"\x89PNG\x00\xff").await.unwrap();
    client.set("text", "Grüße").await.unwrap();
    let image = luge(address, ["get", "image"]).await;
    assert_eq!(image.stdout, b"\x89PNG\x00\xff");
    let copied = luge_with_input(address, ["set", "copy", "-"], b"\x89PNG\x00\xff").await;
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    let copy = client.get("copy").await.unwrap().unwrap();
    assert_eq!(copy, b"\x89PNG\x00\xff"[..]);
    luge(address, ["get", "text"]).await.prints("Grüße\n");
    let document = luge(address, ["get", "image", "--json"]).await.json();
    assert_eq!(document, json!({ "hex": "89504e4700ff" }));
    luge(address, ["mget", "text", "none", "image"])
        .await
        .prints("Grüße\n\n\\x89PNG\\x00\\xff\n");
}

#[tokio::test]
async fn times_to_live_are_given_shown_and_taken_away() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    luge(address, ["set", "k", "v", "--ttl", "1h"]).await;
    let left = luge(address, ["--json", "ttl", "k"]).await.json();
    assert!((3_500_000..=3_600_000).contains(&left["ttl_ms"].as_u64().unwrap()));
    luge(address, ["set", "k", "w", "--keep-ttl"]).await;
    luge(address, ["persist", "k"]).await.prints("ok\n");
    luge(address, ["ttl", "k"]).await.prints("never\n");
    luge(address, ["persist", "k"]).await.is_absent();
    luge(address, ["expire", "k", "10s"]).await.prints("ok\n");
    luge(address, ["expire", "none", "10s"]).await.is_absent();
    luge(address, ["ttl", "none"]).await.is_absent();
}

#[tokio::test]
async fn conditions_that_do_not_hold_are_errors_with_the_current_version() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let version = luge(address, ["--json", "set", "k", "v"]).await.json()["version"].to_string();
    let again = luge(address, ["set", "k", "w", "--if-absent"]).await;
    again.fails("error: precondition_failed: ");
    assert!(
        again
            .stderr
            .contains(&format!("current version: {version}")),
        "{}",
        again.stderr
    );
    luge(address, ["set", "k", "w", "--if-version", "0"])
        .await
        .fails("error: precondition_failed: ");
    let set = luge(address, ["set", "k", "w", "--if-version", &version]).await;
    assert_eq!(set.code, 0, "{}", set.stderr);
}

#[tokio::test]
async fn numbers_are_counted_up_and_down() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    luge(address, ["incr", "visits"]).await.prints("1\n");
    luge(address, ["incr", "visits", "-3"]).await.prints("-2\n");
    luge(address, ["set", "name", "Ada"]).await;
    luge(address, ["incr", "name"])
        .await
        .fails("error: bad_request: ");
}

#[tokio::test]
async fn a_scan_prints_one_entry_a_line_whatever_is_in_it() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let client = Client::connect(address).await.unwrap();
    client.set("user:1", "Ada").await.unwrap();
    client.set("user:2", "two\nlines\tand a tab").await.unwrap();
    client.set(b"user:\xff", "").await.unwrap();
    client.set("other", "x").await.unwrap();
    luge(address, ["scan", "user:"])
        .await
        .prints("user:1\tAda\nuser:2\ttwo\\nlines\\tand a tab\nuser:\\xff\t\n");
    luge(address, ["scan", "user:", "--keys", "--reverse"])
        .await
        .prints("user:\\xff\nuser:2\nuser:1\n");
    let document = luge(address, ["scan", "--limit", "1", "--json"]).await;
    let document: Value = serde_json::from_slice(&document.stdout).unwrap();
    assert_eq!(document["entries"][0]["key"], "other");
    assert_eq!(document["more"], true);
}

#[tokio::test]
async fn a_scan_goes_over_pages_up_to_its_limit_and_tells_when_there_are_more() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let client = Client::connect(address).await.unwrap();
    for number in 0..1100 {
        client.set(format!("key{number:04}"), "v").await.unwrap();
    }
    let lines = |run: &Run| run.stdout.iter().filter(|byte| **byte == b'\n').count();
    let usual = luge(address, ["scan"]).await;
    assert_eq!((lines(&usual), usual.code), (1000, 0));
    let note = "note: there are more entries; --limit 0 prints all\n";
    assert_eq!(usual.stderr, note);
    let all = luge(address, ["scan", "--limit", "0"]).await;
    assert_eq!((lines(&all), &*all.stderr), (1100, ""));
    let exact = luge(address, ["scan", "--limit", "1100"]).await;
    assert_eq!((lines(&exact), &*exact.stderr), (1100, ""));
}

/// `echo` returns its arguments, `refuse` refuses with them, `trap` traps; a hook refuses every `set`
/// of a key that begins with `locked:`.
const MODULE: &[u8] = br#"
(module $sample
  (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
  (import "luge_v1" "output_write" (func $write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "{\"procedure\": \"echo\", \"read_only\": true}\n{\"procedure\": \"refuse\"}\n{\"procedure\": \"trap\"}\n{\"hook\": \"lock\", \"phase\": \"request\", \"commands\": [\"set\"], \"prefix\": \"locked:\"}\n")
  (data (i32.const 512) "the key is locked")
  (func $copy
    (call $write (i32.const 1024) (i32.wrap_i64 (call $input (i32.const 0) (i32.const 1024) (i32.const 4096)))))
  (func (export "metadata") (result i32)
    (call $write (i32.const 0) (i32.const 166)) (i32.const 0))
  (func (export "echo") (result i32) (call $copy) (i32.const 0))
  (func (export "refuse") (result i32) (call $copy) (i32.const 3))
  (func $deep unreachable)
  (func (export "trap") (result i32) (call $deep) (i32.const 0))
  (func (export "lock") (result i32)
    (call $write (i32.const 512) (i32.const 17)) (i32.const 1)))
"#;

/// Writes the module to a file and pushes it as `sample`.
async fn push(address: SocketAddr, folder: &tempfile::TempDir) -> Run {
    let file = folder.path().join("sample.wat");
    std::fs::write(&file, MODULE).unwrap();
    let file = file.to_str().unwrap();
    luge(
        address,
        [
            "module", "push", "sample", file, "--memory", "1MiB", "--config", "a=b",
        ],
    )
    .await
}

#[tokio::test]
async fn a_module_is_pushed_listed_shown_and_removed() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let folder = tempfile::tempdir().unwrap();
    let pushed = push(address, &folder).await;
    assert_eq!((&*pushed.stderr, pushed.code), ("", 0));
    let text = String::from_utf8(pushed.stdout).unwrap();
    for part in [
        "sample version 1\n",
        "memory 1MiB",
        "config     a=b",
        "procedure  sample.echo, read-only",
        "hook       lock before set of keys \"locked:…\", order 0, on failure block",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let list = luge(address, ["module", "list"]).await;
    assert!(
        String::from_utf8(list.stdout)
            .unwrap()
            .contains("sample  1        active  3           1")
    );
    let shown = luge(address, ["--json", "module", "show", "sample"])
        .await
        .json();
    assert_eq!(shown["hooks"][0]["prefix"], "locked:");
    assert_eq!(shown["limits"]["memory_bytes"], 1 << 20);
    luge(address, ["module", "remove", "sample"])
        .await
        .prints("ok\n");
    luge(address, ["module", "show", "sample"])
        .await
        .fails("error: not_found: ");
}

#[tokio::test]
async fn a_push_can_change_one_hook_of_a_module() {
    const GREETER: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../udfs/examples/built/greeter.wasm"
    );
    let server = luge_server::testing::start().await;
    let address = server.address();
    let push = |hook| {
        let options = [
            "module", "push", "greeter", GREETER, "--hook", hook, "--prefix", "now:", "--json",
        ];
        luge(address, options)
    };
    let pushed = push("answer").await.json();
    let hooks = pushed["hooks"].as_array().unwrap();
    let prefixes: Vec<_> = hooks
        .iter()
        .map(|hook| (hook["hook"].as_str(), hook["prefix"].as_str()))
        .collect();
    let expected = [
        (Some("answer"), Some("now:")),
        (Some("refuse"), Some("virtual:")),
    ];
    assert_eq!(prefixes, expected);
    let unknown = push("nobody").await;
    unknown.fails("error: invalid_module: ");
    assert!(unknown.stderr.contains("nobody"), "{}", unknown.stderr);
}

#[tokio::test]
async fn a_push_can_have_instances_kept_between_calls() {
    const COUNTER: &str = r#"(module (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1) (data (i32.const 0) "0")
        (func (export "count") (result i32)
            (i32.store8 (i32.const 0) (i32.add (i32.const 1) (i32.load8_u (i32.const 0))))
            (call $output (i32.const 0) (i32.const 1)) (i32.const 0)))"#;
    let server = luge_server::testing::start().await;
    let address = server.address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counter.wat");
    std::fs::write(&file, COUNTER).unwrap();
    let file = file.to_str().unwrap();
    let push = |how| {
        let options = ["module", "push", "counter", file, "--isolation", how];
        luge(address, options)
    };
    let count = || luge(address, ["call", "counter.count", "--raw", ""]);
    let kept = push("reuse").await;
    assert_eq!((&*kept.stderr, kept.code), ("", 0));
    let text = String::from_utf8(kept.stdout).unwrap();
    assert!(text.contains("isolation  reuse"), "{text}");
    assert_eq!(count().await.stdout, b"1\n");
    assert_eq!(count().await.stdout, b"2\n");
    let fresh = push("fresh").await;
    assert_eq!((&*fresh.stderr, fresh.code), ("", 0));
    assert_eq!(count().await.stdout, b"1\n");
    assert_eq!(count().await.stdout, b"1\n");
    assert_eq!(push("shared").await.code, 2);
}

/// A module whose one procedure answers this text.
fn saying(text: &str) -> String {
    let length = text.len();
    format!(
        r#"(module (import "luge_v1" "output_write" (func $output (param i32 i32)))
            (memory (export "memory") 1) (data (i32.const 0) "{text}")
            (func (export "say") (result i32)
                (call $output (i32.const 0) (i32.const {length})) (i32.const 0)))"#
    )
}

#[tokio::test]
async fn versions_are_pushed_activated_rolled_back_and_listed() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.wat");
    let file = file.to_str().unwrap();
    let says = async |text: &str| {
        let said = luge(address, ["call", "m.say", "--raw", ""]).await;
        said.prints(&format!("{text}\n"));
    };
    let state = |run: &Run| {
        let text = String::from_utf8(run.stdout.clone()).unwrap();
        let lines: Vec<&str> = text.lines().take(2).collect();
        lines.join(";")
    };
    std::fs::write(file, saying("one")).unwrap();
    let push = luge(address, ["module", "push", "m", file]).await;
    assert_eq!(state(&push), "m version 1;  state      active");
    let push = luge(address, ["module", "push", "m", file]).await;
    let unchanged = "m version 1;  state      unchanged: it was there already, active";
    assert_eq!(state(&push), unchanged);
    std::fs::write(file, saying("two")).unwrap();
    let push = luge(address, ["module", "push", "m", file, "--inactive"]).await;
    let waits = "m version 2;  state      not active; `luge module activate m 2` puts it in force";
    assert_eq!(state(&push), waits);
    says("one").await;
    let activated = luge(address, ["module", "activate", "m", "2"]).await;
    let in_place = "m version 2;  state      active, in place of version 1";
    assert_eq!(state(&activated), in_place);
    says("two").await;

    let list = luge(address, ["module", "list"]).await;
    let list = String::from_utf8(list.stdout).unwrap();
    let lines: Vec<Vec<&str>> = list
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0][..3], ["NAME", "VERSION", "STATE"]);
    assert_eq!(lines[1][..3], ["m", "1", "rollback"]);
    assert_eq!(lines[2][..3], ["m", "2", "active"]);
    let document = luge(address, ["module", "list", "--json"]).await.json();
    assert_eq!(
        (&document[0]["active"], &document[0]["rollback"]),
        (&json!(2), &json!(1))
    );
    let hash = document[0]["versions"][1]["sha256"].as_str().unwrap();
    assert!(hash.starts_with(lines[2][10]) && hash.len() == 64, "{list}");
    let shown = luge(address, ["module", "show", "m", "2", "--json"])
        .await
        .json();
    assert_eq!(
        (&shown["sha256"], &shown["active"]),
        (&json!(hash), &json!(true))
    );

    let rolled = luge(address, ["module", "rollback", "m", "--json"])
        .await
        .json();
    let expected = json!({
        "outcome": "activated", "active_before": 2, "dropped": [], "dry_run": false, "exports": []
    });
    assert_eq!(
        (&rolled["version"], &rolled["change"]),
        (&json!(1), &expected)
    );
    says("one").await;
    luge(address, ["module", "rollback", "m"])
        .await
        .fails("error: not_found: there is no version to go back to: none that is kept was active before version 1 of the module `m`, but for those that were rolled back from; there are 2, 1 (active); `luge module activate` (`module.activate`) ");
    luge(address, ["module", "activate", "m", "7"])
        .await
        .fails("error: not_found: the module `m` has no version 7; there are 2, 1 (active); ");
    luge(address, ["module", "activate", "none", "1"])
        .await
        .fails("error: not_found: no module `none`; there are m; ");
}

#[tokio::test]
async fn a_dry_run_prints_exports_grants_hooks_and_filters_and_changes_nothing() {
    const GREETER: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../udfs/examples/built/greeter.wasm"
    );
    let server = luge_server::testing::start().await;
    let address = server.address();
    let push = [
        "module",
        "push",
        "greeter",
        GREETER,
        "--hook",
        "answer",
        "--prefix",
        "now:",
        "--grant-read",
        "user:",
        "--grant-read",
        "a b",
        "--dry-run",
    ];
    let printed = luge(address, push).await;
    assert_eq!((&*printed.stderr, printed.code), ("", 0));
    let text = String::from_utf8(printed.stdout).unwrap();
    for line in [
        "  dry run    nothing was changed; a push would lead to this\n",
        "  state      active\n",
        "  hook       answer before get of keys \"now:…\", order 0, on failure block",
        "  export     answer () -> i32\n",
        "  grant      read keys \"a b…\", keys \"user:…\"; write no key\n",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    luge(address, ["module", "list", "--json"])
        .await
        .prints("[]\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "(module (import \"env\" \"gone\" (func)))").unwrap();
    let path = file.path().to_str().unwrap();
    luge(address, ["module", "push", "m", path, "--dry-run"])
        .await
        .fails("error: invalid_module: the module `m` can't be registered: it imports `env.gone`");
}

#[tokio::test]
async fn calls_take_and_return_json() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let folder = tempfile::tempdir().unwrap();
    push(address, &folder).await;
    let text = r#"{"z":[1,-2,18446744073709551615],"a":null}"#;
    let line = format!("{text}\n");
    luge(address, ["call", "sample.echo", text])
        .await
        .prints(&line);
    luge(address, ["call", "sample.echo"])
        .await
        .prints("null\n");
    luge_with_input(address, ["call", "sample.echo", "-"], b" [true] ")
        .await
        .prints("[true]\n");
    luge(address, ["call", "sample.echo", "--raw", "as it is"])
        .await
        .prints("as it is\n");
    luge(address, ["call", "sample.echo", "{"])
        .await
        .fails("error: arguments: not JSON: ");
    luge(address, ["call", "sample.none"])
        .await
        .fails("error: not_found: ");
}

/// Writes `k=v` and answers the MessagePack value 7; or writes it and goes on for ever.
const WRITER: &str = r#"(module
    (import "luge_v1" "output_write" (func $output (param i32 i32)))
    (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
    (memory (export "memory") 1)
    (data (i32.const 0) "kv\07")
    (func $write (call $set (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 1) (i64.const 0)))
    (func (export "once") (result i32)
        (call $write) (call $output (i32.const 2) (i32.const 1)) (i32.const 0))
    (func (export "endless") (result i32) (call $write) (loop $on (br $on)) (i32.const 0)))"#;

#[tokio::test]
async fn a_dry_run_shows_what_a_call_would_do_and_a_running_call_is_shown_and_killed() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("writer.wat");
    std::fs::write(&file, WRITER).unwrap();
    let file = file.to_str().unwrap();
    let fuel = "10000000000";
    let limits = ["--cpu", "5s", "--deadline", "60s", "--fuel", fuel];
    let [a, b, c, d, e, f] = limits;
    let pushed = luge(
        address,
        ["module", "push", "writer", file, a, b, c, d, e, f],
    )
    .await;
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);

    let dry = luge(address, ["call", "writer.once", "--dry-run"]).await;
    let text = String::from_utf8(dry.stdout).unwrap();
    assert!(text.starts_with("output\t7\nset\tk\tv\nused\t"), "{text}");
    let dry = luge(address, ["call", "writer.once", "--dry-run", "--json"]).await;
    let dry = dry.json();
    assert_eq!(
        dry["writes"],
        json!([{"key": "k", "value": "v", "expires_ms": null}])
    );
    assert_eq!((&dry["output"], &dry["more"]), (&json!(7), &json!(0)));
    assert_eq!(dry["memory_bytes"], 65536);
    luge(address, ["get", "k"]).await.is_absent();

    luge(address, ["ps"]).await.prints("");
    let call = tokio::spawn(luge(address, ["call", "writer.endless"]));
    let id = loop {
        let running = luge(address, ["ps", "--json"]).await.json();
        if let Some(call) = running.as_array().unwrap().first()
            && call["function"] == "endless"
        {
            break call["call"].as_u64().unwrap().to_string();
        }
    };
    let shown = luge(address, ["ps"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    let line = format!("{id}\tcall\twriter.endless\t-\t");
    assert!(shown.lines().nth(1).unwrap().starts_with(&line), "{shown}");
    luge(address, ["kill", &id]).await.prints("ok\n");
    call.await
        .unwrap()
        .fails(&format!("error: killed: the call {id} was killed"));
    luge(address, ["kill", &id])
        .await
        .fails("error: not_found: no call ");
    luge(address, ["get", "k"]).await.is_absent();
}

#[tokio::test]
async fn refusals_and_traps_show_what_the_function_said() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let folder = tempfile::tempdir().unwrap();
    push(address, &folder).await;
    let refused = luge(address, ["call", "sample.refuse", r#"{"missing": 5}"#]).await;
    refused.fails("error: rejected: ");
    assert!(refused.stderr.contains("code: 3\n"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("payload: {\"missing\":5}\n"),
        "{}",
        refused.stderr
    );
    let trapped = luge(address, ["call", "sample.trap"]).await;
    trapped.fails("error: trap: ");
    assert!(trapped.stderr.contains("at "), "{}", trapped.stderr);
    assert!(trapped.stderr.contains("deep"), "{}", trapped.stderr);
    let blocked = luge(address, ["set", "locked:1", "v"]).await;
    blocked.fails("error: blocked: the key is locked\n");
    assert!(blocked.stderr.contains("sample.lock"), "{}", blocked.stderr);
    luge(address, ["get", "locked:1"]).await.is_absent();
}

#[tokio::test]
async fn a_module_that_can_t_be_translated_is_refused_with_its_place() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.wat");
    std::fs::write(&file, "(module\n  (fun))").unwrap();
    let run = luge(
        address,
        ["module", "push", "broken", file.to_str().unwrap()],
    )
    .await;
    run.fails("error: invalid_module: the module's text can't be translated: ");
    assert!(run.stderr.contains("2:4"), "{}", run.stderr);
    assert!(run.stderr.contains("broken.wat:2:4"), "{}", run.stderr);
    luge(address, ["module", "push", "none", "/nowhere.wasm"])
        .await
        .fails("error: file: /nowhere.wasm: ");
    let run = luge(address, ["module", "push", file.to_str().unwrap(), "name"]).await;
    run.fails("error: file: name: ");
    assert!(run.stderr.contains("NAME FILE"), "{}", run.stderr);
    std::fs::write(&file, "# Notes").unwrap();
    let run = luge(address, ["module", "push", "notes", file.to_str().unwrap()]).await;
    run.fails(&format!("error: file: {} is no module: ", file.display()));
}

#[tokio::test]
async fn the_server_tells_how_it_is() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    luge(address, ["ping"]).await.prints("pong\n");
    luge(address, ["flush"]).await.prints("ok\n");
    let set = luge(address, ["set", "k", "v", "--durable"]).await;
    assert!(set.stdout.starts_with(b"ok (version "));
    let info = luge(address, ["info", "--json"]).await.json();
    assert_eq!(info["modules"], 0);
    assert_eq!(info["store"].as_str().unwrap().len(), 32);
    let text = luge(address, ["info"]).await;
    assert!(text.stdout.starts_with(b"server       "));
}

#[tokio::test]
async fn a_token_comes_from_a_flag_or_a_file_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let mut token = String::new();
    let server = luge_server::testing::start_with(|config| {
        config.tokens_file = folder.path().join("users");
        let file = TokensFile::find(config).unwrap();
        token = file.add("anna", Role::Data).unwrap();
    })
    .await;
    let address = server.address();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let file = file.to_str().unwrap();
    luge(address, ["ping", "--token", &token])
        .await
        .prints("pong\n");
    luge(address, ["ping", "--token-file", file])
        .await
        .prints("pong\n");
    for (name, value) in [("LUGE_TOKEN", &*token), ("LUGE_TOKEN_FILE", file)] {
        let mut command = program(address, ["ping"]);
        command.env(name, value);
        run(command, b"").await.prints("pong\n");
    }
    // What is said on the command line counts.
    let mut command = program(address, ["ping", "--token", "wrong"]);
    command.env("LUGE_TOKEN", &token);
    let refused = run(command, b"").await;
    refused.fails(
        "error: unauthenticated: the credentials of `hello` are no token of this server's\n",
    );
    assert!(
        refused.stderr.contains("LUGE_TOKEN_FILE"),
        "{}",
        refused.stderr
    );
    luge(address, ["ping"])
        .await
        .fails("error: unauthenticated: ");
    luge(address, ["module", "list", "--token", &token])
        .await
        .fails("error: forbidden: `luge module list` (`module.list`) needs the role deploy, and this token has data\n");
    luge(address, ["ps", "--token", &token])
        .await
        .fails("error: forbidden: `luge ps` (`calls.list`) needs the role admin");
    luge(address, ["call", "m.p", "--dry-run", "--token", &token])
        .await
        .fails("error: forbidden: a dry run of a `call` needs the role deploy");
    let other = folder.path().join("other");
    for (text, what) in [
        ("a b", "the file has more than a token"),
        ("", "the file is empty; it should have the token that"),
        (" \n", "the file is empty"),
        (&"x".repeat(5000), "the file has more than a token"),
    ] {
        std::fs::write(&other, text).unwrap();
        luge(address, ["ping", "--token-file", other.to_str().unwrap()])
            .await
            .fails(&format!("error: file: {}: {what}", other.display()));
    }
    luge(address, ["ping", "--token-file", "/nowhere"])
        .await
        .fails("error: file: /nowhere: ");
}

#[tokio::test]
async fn without_a_server_the_error_says_where_and_how_to_start_one() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let run = luge(address, ["ping"]).await;
    run.fails(&format!(
        "error: no_connection: nothing listens at {address}; start a server with `luge-server`"
    ));
}

#[tokio::test]
async fn wrong_usage_exits_2_and_says_what_is_wrong() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let duration = "a duration is a whole number and a unit, and at least 1ms";
    for (arguments, said) in [
        (["set", "k", "v", "--ttl", "10"], duration),
        (["set", "k", "v", "--ttl", "-1s"], duration),
        (
            ["set", "k", "--if-version", "x", "v"],
            "a whole number from 0 to 18446744073709551615 stands here",
        ),
        (
            ["module", "push", "m", "f", "--memory=16MB"],
            "a size is a whole number",
        ),
        // What the environment has is no part of the usage.
        (
            ["set", "--json", "--durable", "--tls", "k"],
            "Usage: luge set --json --durable --tls <KEY> <VALUE>",
        ),
    ] {
        let run = luge(nobody, arguments).await;
        assert_eq!((run.code, run.stdout.len()), (2, 0), "{}", run.stderr);
        assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
    let mut command = program(nobody, ["ping"]);
    command.env("LUGE_ADDR", "here:http");
    let run = run(command, b"").await;
    let said = "error: usage: LUGE_ADDR is `here:http`: `http` is not a port, which is a number up to 65535\n";
    assert_eq!((run.code, &*run.stderr), (2, said));
}

#[tokio::test]
async fn changes_are_printed_one_a_line() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let client = Client::connect(address).await.unwrap();
    let first = client.set("user:1", "Ada\tL.").await.unwrap();
    client.set("other", "x").await.unwrap();
    client.del(&["user:1"]).await.unwrap();
    let from = first.to_string();
    let lines = format!(
        "{first}\tset\tuser:1\tAda\\tL.\n{}\tdel\tuser:1\n",
        first + 2
    );
    luge(address, ["watch", "user:", "--from", &from, "--count", "2"])
        .await
        .prints(&lines);
    let keys = ["watch", "--keys-only", "--from", &from, "--count", "1"];
    luge(address, keys)
        .await
        .prints(&format!("{first}\tset\tuser:1\n"));
    let json = ["watch", "--json", "--from", &from, "--count", "1"];
    assert_eq!(
        luge(address, json).await.json(),
        json!({ "sequence": first, "change": "set", "key": "user:1", "value": "Ada\tL.", "expires_ms": null })
    );
    let ahead = luge(address, ["watch", "--from", "1000000"]).await;
    ahead.fails("error: bad_request: the sequence 1000000 lies ahead of");
    let hint = format!("  to go on: --from {}\n", first + 3);
    assert!(ahead.stderr.ends_with(&hint), "{}", ahead.stderr);
}

#[tokio::test]
async fn what_functions_did_and_what_they_logged_is_printed() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let client = Client::connect(address).await.unwrap();
    let guest = br#"(module
        (import "luge_v1" "log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "a\1b\nb")
        (func (export "say") (result i32)
            (call $log (i32.const 3) (i32.const 0) (i32.const 4)) (i32.const 7)))"#;
    let options = luge_client::PushOptions::default();
    client.module_push("m", guest, options).await.unwrap();
    luge(address, ["call", "m.say"])
        .await
        .fails("error: rejected");
    let log = luge(address, ["logs", "m", "--level", "warn"]).await;
    assert!(
        log.stdout.ends_with(b"\tm.say\ta\\u{1b}\\nb\n"),
        "{:?}",
        log.stdout
    );
    assert_eq!(
        luge(address, ["logs", "--json"]).await.json()["message"],
        "a\\u{1b}\\nb"
    );
    luge(address, ["logs", "--level", "error"]).await.prints("");
    let nobodys = luge(address, ["logs", "n"]).await;
    let note =
        "note: no module `n`; there are m; `luge module push` (`module.push`) registers one\n";
    assert_eq!(
        (nobodys.code, nobodys.stdout.len(), &*nobodys.stderr),
        (0, 0, note)
    );
    let stats = luge(address, ["module", "stats", "m", "--json"])
        .await
        .json();
    assert_eq!(stats["functions"][0]["errors"]["rejected"], 1);
    let table = luge(address, ["module", "stats"]).await;
    assert!(
        table.stdout.starts_with(b"FUNCTION  VERSION   CALLS"),
        "{:?}",
        table.stdout
    );
    let unknown = luge(address, ["module", "stats", "n"]).await;
    unknown.fails("error: not_found: ");
}

/// An empty line came in place of the number.
#[tokio::test]
async fn what_a_hook_keeps_back_is_told() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let client = Client::connect(address).await.unwrap();
    let hides = br#"(module
        (import "luge_v1" "output_write" (func $write (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{\"hook\": \"hide\", \"phase\": \"request\", \"commands\": [\"get\"], \"prefix\": \"secret:\"}")
        (func (export "metadata") (result i32) (call $write (i32.const 0) (i32.const 78)) (i32.const 0))
        (func (export "hide") (result i32) (i32.const 3)))"#;
    let options = luge_client::PushOptions::default();
    client.module_push("hides", hides, options).await.unwrap();
    let sum = luge(address, ["incr", "secret:n"]).await;
    let told = String::from_utf8(sum.stdout).unwrap();
    assert!(
        told.starts_with("ok (version ")
            && told.ends_with("); a hook of get keeps the number back\n"),
        "{told}"
    );
    let document = luge(address, ["incr", "secret:n", "--json"]).await.json();
    assert_eq!(document["number"], Value::Null);
    let any = luge(address, ["watch"]).await;
    any.fails("error: forbidden: a watch of every key can't tell values: some pass hooks of `get`");
    for part in ["of the module `hides`", "`--keys-only`"] {
        assert!(any.stderr.contains(part), "{}", any.stderr);
    }
    luge(address, ["watch", "secret:"])
        .await
        .fails("error: forbidden: a watch of keys that begin with `secret:` can't tell values");
}

#[tokio::test]
async fn versions_that_differ_in_their_settings_alone_are_told_apart() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.wat");
    std::fs::write(&file, saying("one")).unwrap();
    let file = file.to_str().unwrap();
    luge(address, ["module", "push", "m", file]).await;
    luge(address, ["module", "push", "m", file, "--fuel", "77777"]).await;
    luge(address, ["module", "push", "n", file]).await;
    let list = luge(address, ["module", "list"]).await;
    let list = String::from_utf8(list.stdout).unwrap();
    let column = |from_the_end| -> Vec<&str> {
        let rows = list.lines().skip(1);
        rows.map(|row| row.split_whitespace().rev().nth(from_the_end).unwrap())
            .collect()
    };
    let (settings, hashes) = (column(0), column(1));
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{list}");
    assert!(
        settings[0] != settings[1] && settings[0] == settings[2],
        "{list}"
    );
}

#[tokio::test]
async fn a_backup_has_its_name_once_it_is_whole_and_replaces_nothing_unasked() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let client = Client::connect(address).await.unwrap();
    client.set("k", "v").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let name = file.to_str().unwrap();
    let printed = luge(address, ["backup", name]).await;
    let copy = std::fs::read(&file).unwrap();
    printed.prints(&format!("{name}: {} bytes\n", copy.len()));
    let mut expected = Vec::new();
    client.backup(&mut expected).await.unwrap();
    assert_eq!(copy.len(), expected.len());
    let again = luge(address, ["backup", name]).await;
    again.fails(&format!(
        "error: file: {name} is there already; --force replaces it"
    ));
    client.set("l", "v").await.unwrap();
    let forced = luge(address, ["backup", name, "--force", "--json"])
        .await
        .json();
    assert!(forced["bytes"].as_u64().unwrap() > copy.len() as u64);
    let nowhere = folder.path().join("none/copy");
    luge(address, ["backup", nowhere.to_str().unwrap()])
        .await
        .fails(&format!("error: file: {}: can't write ", nowhere.display()));
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "only the copy");
}

/// Two backups to one name wrote into one part, and a device that was named was replaced.
#[tokio::test]
async fn a_backup_leaves_alone_what_another_writes_and_what_is_no_file() {
    let server = luge_server::testing::start().await;
    let address = server.address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let others = folder.path().join("copy.part");
    std::fs::write(&others, "of another backup").unwrap();
    let done = luge(address, ["backup", file.to_str().unwrap()]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(std::fs::read(&others).unwrap(), b"of another backup");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    let name = folder.path().to_str().unwrap();
    luge(address, ["backup", name, "--force"])
        .await
        .fails("error: file: ");
    assert!(file.is_file());
    luge(address, ["backup", "-"])
        .await
        .fails("error: file: - is no file; name one that the backup goes to\n");
}
