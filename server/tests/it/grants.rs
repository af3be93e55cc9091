//! Grants: the keys that a module's functions may use.

use luge_protocol::{Grant, HookOverride, Reply};

use crate::support::{Push, Talk, check, clock, open_memory, refused, runtime};

/// A module with a procedure for each host function on keys. The input is a key, up to a `;`, and of a
/// scan the end behind it. `lines` are its describer's.
fn guest(lines: &[&str]) -> String {
    let procedures = [
        "get", "ttl", "version", "set", "keep", "delete", "incr", "scan",
    ];
    let mut all: Vec<String> = procedures
        .iter()
        .map(|name| format!(r#"{{"procedure": "{name}"}}"#))
        .collect();
    all.extend(lines.iter().map(|line| (*line).to_owned()));
    let lines = all.join("\n");
    let length = lines.len();
    let data = lines
        .replace('\\', "\\\\")
        .replace('"', "\\22")
        .replace('\n', "\\0a");
    let key = "(i32.const 0) (global.get $length)";
    format!(
        r#"(module
        (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
        (import "luge_v1" "kv_ttl" (func $ttl (param i32 i32) (result i64)))
        (import "luge_v1" "kv_version" (func $version (param i32 i32) (result i64)))
        (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
        (import "luge_v1" "kv_delete" (func $delete (param i32 i32) (result i32)))
        (import "luge_v1" "kv_incr" (func $incr (param i32 i32 i64 i32) (result i32)))
        (import "luge_v1" "kv_scan" (func $scan (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "luge_v1" "request_previous" (func $previous (param i32 i32 i32) (result i64)))
        (memory (export "memory") 1)
        (global $length (mut i32) (i32.const 0))
        (global $end (mut i32) (i32.const 0))
        (data (i32.const 8000) "done")
        (data (i32.const 8192) "{data}")
        (func $read (local $all i32)
            (call $output (i32.const 8000) (i32.const 4))
            (local.set $all (i32.wrap_i64 (call $input (i32.const 0) (i32.const 0) (i32.const 4096))))
            (loop $more
                (if (i32.and (i32.lt_u (global.get $length) (local.get $all))
                        (i32.ne (i32.load8_u (global.get $length)) (i32.const 59)))
                    (then (global.set $length (i32.add (global.get $length) (i32.const 1)))
                        (br $more))))
            (if (i32.lt_u (global.get $length) (local.get $all)) (then (global.set $end
                (i32.sub (i32.sub (local.get $all) (global.get $length)) (i32.const 1))))))
        (func (export "metadata") (result i32)
            (call $output (i32.const 8192) (i32.const {length})) (i32.const 0))
        (func (export "get") (result i32) (call $read)
            (drop (call $get {key} (i32.const 0) (i32.const 0) (i32.const 0))) (i32.const 0))
        (func (export "ttl") (result i32) (call $read) (drop (call $ttl {key})) (i32.const 0))
        (func (export "version") (result i32) (call $read) (drop (call $version {key})) (i32.const 0))
        (func (export "set") (result i32) (call $read)
            (call $set {key} (i32.const 0) (i32.const 1) (i64.const 0)) (i32.const 0))
        (func (export "keep") (result i32) (call $read)
            (call $set {key} (i32.const 0) (i32.const 1) (i64.const -1)) (i32.const 0))
        (func (export "delete") (result i32) (call $read) (drop (call $delete {key})) (i32.const 0))
        (func (export "incr") (result i32) (call $read)
            (drop (call $incr {key} (i64.const 1) (i32.const 4096))) (i32.const 0))
        (func (export "scan") (result i32) (call $read)
            (drop (call $scan {key} (i32.add (global.get $length) (i32.const 1)) (global.get $end)
                (i32.const 0) (i32.const 0))) (i32.const 0))
        (func (export "hook") (result i32)
            (drop (call $previous (i32.const 0) (i32.const 0) (i32.const 0))) (i32.const 0)))"#
    )
}

const ASKS: &[&str] = &[
    r#"{"grant": {"read": ["user:", "both:"], "write": ["out:"]}}"#,
    r#"{"grant": {"write": ["both:"], "read_hex": ["00ff"]}}"#,
];

#[test]
fn each_function_on_keys_needs_what_it_does() {
    check(
        &[Push::new("m", guest(ASKS))],
        r#"
        > call m.get user:1
        done
        > call m.ttl user:1
        done
        > call m.version user:1
        done
        > call m.get out:1
        forbidden: m.get: kv_get: the module may not read the key "out:1": it was not granted to
        > call m.ttl out:1
        forbidden: m.ttl: kv_ttl: the module may not read the key "out:1": it was not granted to
        > call m.version secret
        forbidden: m.version: kv_version: the module may not read the key "secret": it was not granted to
        > call m.set out:1
        done
        > call m.keep out:1
        done
        > call m.set user:1
        forbidden: m.set: kv_set: the module may not write the key "user:1": it was not granted to
        > call m.delete both:1
        done
        > call m.incr both:1
        done
        > call m.delete out:1
        forbidden: m.delete: kv_delete: the module may not read the key "out:1": it was not granted to
        > call m.delete user:1
        forbidden: m.delete: kv_delete: the module may not write the key "user:1": it was not granted to
        > call m.incr out:1
        forbidden: m.incr: kv_incr: the module may not read the key "out:1": it was not granted to
        > call m.incr user:1
        forbidden: m.incr: kv_incr: the module may not write the key "user:1": it was not granted to
    "#,
    );
}

#[test]
fn a_scan_lies_within_one_prefix_that_may_be_read() {
    check(
        &[Push::new("m", guest(ASKS))],
        r#"
        > call m.scan user:;user:~
        done
        > call m.scan both:1;both:2
        done
        > call m.scan user:
        forbidden: m.scan: kv_scan: the module may not scan from "user:" on: it was not granted to
        > call m.scan user;user:~
        forbidden: m.scan: kv_scan: the module may not scan from "user" to "user:~": it was not granted to
        > call m.scan both:;user:~
        forbidden: m.scan: kv_scan: the module may not scan from "both:" to "user:~": it was not granted to
        > call m.scan out:;out:~
        forbidden: m.scan: kv_scan: the module may not scan from "out:" to "out:~": it was not granted to
    "#,
    );
}

#[test]
fn what_is_forbidden_undoes_the_call_and_a_module_that_asks_for_nothing_has_every_key() {
    let free = guest(&[]);
    let none = guest(&[r#"{"grant": {}}"#]);
    check(
        &[Push::new("free", free), Push::new("none", none)],
        r#"
        > call free.set k
        done
        > call free.scan ;
        done
        > get k
        k v3
        > call none.set k
        forbidden: none.set: kv_set: the module may not write the key "k": it was not granted to
        > call none.scan k;
        forbidden: none.scan: kv_scan: the module may not scan from "k" on: it was not granted to
        > get k
        k v3
    "#,
    );
}

#[test]
fn a_hook_sees_the_value_before_its_request_whatever_it_was_granted() {
    let lines = [
        r#"{"grant": {"read": ["other:"]}}"#,
        r#"{"hook": "hook", "phase": "request", "commands": ["set"], "prefix": "user:"}"#,
    ];
    check(
        &[Push::new("m", guest(&lines))],
        "
        > set user:1 x
        v2
        > set user:1 y
        v3
    ",
    );
}

fn grant(read: &[&'static str], write: &[&'static str]) -> Option<Grant> {
    let list = |prefixes: &[&'static str]| {
        let bytes = prefixes.iter().map(|it| it.as_bytes());
        bytes.map(Into::into).collect()
    };
    Some(Grant {
        read: list(read),
        write: list(write),
    })
}

#[test]
fn a_push_grants_less_and_never_more_than_is_asked_for() {
    let narrowed = Push {
        grant: grant(&["user:1", "both:"], &["both:x"]),
        ..Push::new("m", guest(ASKS))
    };
    check(
        &[narrowed],
        r#"
        > call m.get user:1
        done
        > call m.get user:2
        forbidden: m.get: kv_get: the module may not read the key "user:2": it was not granted to
        > call m.incr both:x
        done
        > call m.incr both:y
        forbidden: m.incr: kv_incr: the module may not write the key "both:y": it was not granted to
        > call m.set out:1
        forbidden: m.set: kv_set: the module may not write the key "out:1": it was not granted to
    "#,
    );
    for (pushed, said) in [
        (
            grant(&["users:"], &[]),
            "grants it to read keys that begin with \"users:\"",
        ),
        (
            grant(&["use"], &[]),
            "grants it to read keys that begin with \"use\"",
        ),
        (
            grant(&[], &["user:"]),
            "grants it to write keys that begin with \"user:\"",
        ),
        (
            grant(&[""], &[]),
            "grants it to read keys that begin with \"\"",
        ),
    ] {
        let push = Push {
            grant: pushed,
            ..Push::new("m", guest(ASKS))
        };
        let message = refused(&push);
        assert!(message.contains(said), "{message}");
        assert!(
            message.ends_with("and it does not ask for them"),
            "{message}"
        );
    }
}

#[test]
fn a_module_that_asks_for_every_key_can_be_narrowed_and_another_grant_is_another_version() {
    check(
        &[],
        r#"
        > module.push m one --read first left --write left
        m version 1: pushed
        > call m.say
        oneoneone
        > module.push m one --read left --write left
        m version 2: pushed, before 1
        > module.push m one --write left left:1 --read left left
        m version 2: unchanged, before 2
        > module.push m one --read first
        m version 3: pushed, before 2
        > call m.say
        blocked: the hook m.before_call failed: kv_set: the module may not write the key "left": it was not granted to
        > module.push m one
        m version 4: pushed, before 3
        > call m.say
        oneoneone
        > module.rollback m
        m version 3: activated, before 4
        > call m.say
        blocked: the hook m.before_call failed: …
    "#,
    );
}

#[test]
fn a_grant_of_less_than_is_asked_for_and_one_of_a_module_that_asks_for_nothing_are_warned_of() {
    runtime().block_on(async {
        let config = luge_server::config::Config {
            max_instances: 16,
            ..Default::default()
        };
        let mut talk = Talk::new(open_memory(&clock()), &config, clock()).await;
        let mut warnings = async |push: Push| match talk.push(&push).await {
            Ok(Reply::Module(module)) => module.warnings,
            other => panic!("{other:?}"),
        };
        let asks = r#"{"grant": {"read": ["a:", "b:"], "write": ["a:"]}}"#;
        let narrow = |read: &[&'static str], write: &[&'static str]| Push {
            grant: grant(read, write),
            ..Push::new("m", guest(&[asks]))
        };
        assert!(warnings(narrow(&["a:", "b:"], &["a:"])).await.is_empty());
        assert_eq!(
            warnings(narrow(&["a:", "b:1"], &[])).await,
            [
                "the module asks to read all keys that begin with \"b:\", and the grant has fewer; beyond it a call ends with `forbidden`",
                "the module asks to write all keys that begin with \"a:\", and the grant has fewer; beyond it a call ends with `forbidden`",
            ]
        );
        let silent = |read: &[&'static str]| Push {
            grant: grant(read, &[]),
            ..Push::new("m", guest(&[]))
        };
        assert!(warnings(silent(&[])).await.is_empty());
        assert!(warnings(silent(&["a:"])).await[0].starts_with("the module does not say which keys it uses"));
    });
}

#[test]
fn what_was_granted_is_shown_before_the_push_after_it_and_in_the_list() {
    runtime().block_on(async {
        let config = luge_server::config::Config {
            max_instances: 16,
            ..Default::default()
        };
        let mut talk = Talk::new(open_memory(&clock()), &config, clock()).await;
        for line in [
            "module.push m one --read user: a user:1 --write a --dry-run",
            "module.push m one --read user: a user:1 --write a",
            "module.show m",
        ] {
            let Ok(Reply::Module(module)) = talk.request(line).await else {
                panic!("{line}")
            };
            assert_eq!(module.grant, grant(&["a", "user:"], &["a"]), "{line}");
        }
        talk.request("module.push m two").await.unwrap();
        let Ok(Reply::Modules(modules)) = talk.request("module.list").await else {
            panic!("a list is answered")
        };
        let granted: Vec<_> = modules[0].versions.iter().map(|it| it.granted).collect();
        assert_eq!(granted, [Some(3), None]);
    });
}

#[test]
fn what_a_grant_asks_for_is_bounded_and_well_formed() {
    let many: Vec<String> = (0..65).map(|number| format!("\"{number}\"")).collect();
    let long = "k".repeat(1_025);
    for (line, said) in [
        (
            format!(r#"{{"grant": {{"read": [{}]}}}}"#, many.join(",")),
            "asks for 65 prefixes to read, which exceeds the limit of 64",
        ),
        (
            format!(r#"{{"grant": {{"write": ["{long}"]}}}}"#),
            "asks for a prefix of 1025 bytes to write, and a key has 1024 at the most",
        ),
        (
            r#"{"grant": {"reads": []}}"#.to_owned(),
            "unknown field `reads`",
        ),
        (r#"{"grant": ["user:"]}"#.to_owned(), "invalid type"),
        (
            r#"{"grant": {"write_hex": ["0"]}}"#.to_owned(),
            "the write_hex \"0\" is not pairs",
        ),
        (
            r#"{"grant": {}, "hook": "x"}"#.to_owned(),
            "unknown field `grant`",
        ),
    ] {
        let message = refused(&Push::new("m", guest(&[&line])));
        assert!(message.contains(said), "{line}: {message}");
    }
    let push = Push {
        grant: Some(Grant {
            read: vec!["x".into(); 65],
            write: vec![],
        }),
        overrides: Some(Vec::<HookOverride<'_>>::new()),
        ..Push::new("m", guest(&[]))
    };
    let message = refused(&push);
    assert!(
        message.contains("the push grants 65 prefixes to read"),
        "{message}"
    );
}
