//! Fresh instances: whatever a call changes in its own, the next one finds nothing of it. Most of them were made for
//! another call and set back, which nobody may be able to tell.

use luge_protocol::{Call, Command, ErrorCode, LimitsRequest, Options, Reply};
use luge_server::config::Config;
use luge_server::store::MemoryStore;

use crate::support::{Push, Talk, check, clock, open_memory, refused, runtime};

/// A module whose `run` executes `body`, which may say numbers below ten.
fn module(parts: &str, body: &str) -> Push {
    let line = r#"{"procedure": "run"}"#;
    let length = line.len();
    let data = line.replace('"', r"\22");
    let wat = format!(
        r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 1024) "{data}")
        (func (export "metadata") (result i32)
            (call $output (i32.const 1024) (i32.const {length})) (i32.const 0))
        (func $say (param $number i32)
            (i32.store8 (i32.const 0) (i32.add (i32.const 48) (local.get $number)))
            (call $output (i32.const 0) (i32.const 1)))
        {parts}
        (func (export "run") (result i32) {body} (i32.const 0)))"#
    );
    Push::new("m", wat)
}

/// Whether the instances of a module are set back.
const REWOUND: bool = true;
const ANEW: bool = false;

/// What a call may change: whether its instance is then set back, parts of a module, what it looks at and then changes, and what
/// it must always find.
const CHANGES: [(bool, &str, &str, &str); 23] = [
    (
        REWOUND,
        "",
        "(call $say (i32.load8_u (i32.const 4096))) (i32.store8 (i32.const 4096) (i32.const 1))",
        "0",
    ),
    (
        REWOUND,
        "",
        "(call $say (i32.load8_u (i32.const 65535))) (i32.store8 (i32.const 65535) (i32.const 1))",
        "0",
    ),
    (
        REWOUND,
        r#"(data (i32.const 8190) "\01\02\03\04")"#,
        "(call $say (i32.load8_u (i32.const 8193))) (i32.store (i32.const 8190) (i32.const 0))",
        "4",
    ),
    (
        REWOUND,
        "",
        "(call $say (i32.load8_u (i32.const 30000))) (memory.fill (i32.const 20000) (i32.const 9) (i32.const 20000))",
        "0",
    ),
    (
        REWOUND,
        "",
        "(call $say (i32.load8_u (i32.const 50000))) (memory.copy (i32.const 49999) (i32.const 1023) (i32.const 20))",
        "0",
    ),
    (
        REWOUND,
        r#"(data $text "\05")"#,
        "(call $say (i32.load8_u (i32.const 5000))) (memory.init $text (i32.const 5000) (i32.const 0) (i32.const 1))",
        "0",
    ),
    (
        ANEW,
        r#"(data $text "\05")"#,
        "(memory.init $text (i32.const 5000) (i32.const 0) (i32.const 1)) (data.drop $text) (call $say (i32.load8_u (i32.const 5000)))",
        "5",
    ),
    (
        ANEW,
        "",
        "(call $say (memory.size)) (drop (memory.grow (i32.const 1)))",
        "1",
    ),
    (
        REWOUND,
        "(global $g (mut i32) (i32.const 3))",
        "(call $say (global.get $g)) (global.set $g (i32.const 4))",
        "3",
    ),
    (
        REWOUND,
        r#"(global $g (export "g") (mut i64) (i64.const 3))"#,
        "(call $say (i32.wrap_i64 (global.get $g))) (global.set $g (i64.const -1))",
        "3",
    ),
    (
        REWOUND,
        "(global $g (mut f32) (f32.const 3.5)) (global $h (mut f64) (f64.const 2.5))",
        "(call $say (i32.trunc_f32_s (global.get $g))) (call $say (i32.trunc_f64_s (global.get $h)))
         (global.set $g (f32.const 9)) (global.set $h (f64.const nan))",
        "32",
    ),
    (
        REWOUND,
        "(global $g (mut v128) (v128.const i32x4 1 2 3 4))",
        "(call $say (i32x4.extract_lane 3 (global.get $g))) (global.set $g (v128.const i32x4 0 0 0 0))",
        "4",
    ),
    (
        ANEW,
        "(table 2 funcref) (elem (i32.const 0) $say)",
        "(call $say (ref.is_null (table.get (i32.const 0)))) (table.set (i32.const 0) (ref.null func))",
        "0",
    ),
    (
        ANEW,
        "(table 2 funcref) (elem declare func $say)",
        "(call $say (ref.is_null (table.get (i32.const 1)))) (table.fill (i32.const 0) (ref.func $say) (i32.const 2))",
        "1",
    ),
    (
        ANEW,
        "(table 2 funcref) (elem (i32.const 0) $say)",
        "(call $say (ref.is_null (table.get (i32.const 1)))) (table.copy (i32.const 1) (i32.const 0) (i32.const 1))",
        "1",
    ),
    (
        ANEW,
        "(table 2 funcref) (elem $e func $say)",
        "(call $say (ref.is_null (table.get (i32.const 1)))) (table.init $e (i32.const 1) (i32.const 0) (i32.const 1)) (elem.drop $e)",
        "1",
    ),
    (
        ANEW,
        "(table 2 funcref)",
        "(call $say (table.size)) (drop (table.grow (ref.null func) (i32.const 1)))",
        "2",
    ),
    (
        ANEW,
        "(global $g (mut funcref) (ref.null func)) (elem declare func $say)",
        "(call $say (ref.is_null (global.get $g))) (global.set $g (ref.func $say))",
        "1",
    ),
    (
        ANEW,
        "(global $g (mut i32) (i32.const 0)) (func $start (global.set $g (i32.add (global.get $g) (i32.const 2)))) (start $start)",
        "(call $say (global.get $g)) (global.set $g (i32.const 7))",
        "2",
    ),
    (
        REWOUND,
        r#"(global $g (mut i32) (i32.const 0)) (func (export "_initialize") (global.set $g (i32.add (global.get $g) (i32.const 2))))"#,
        "(call $say (global.get $g)) (global.set $g (i32.const 7))",
        "2",
    ),
    (
        ANEW,
        r#"(elem $e func $say)"#,
        "(call $say (i32.load8_u (i32.const 4096))) (i32.store8 (i32.const 4096) (i32.const 1))",
        "0",
    ),
    (
        ANEW,
        "(global $g i32 (i32.add (i32.const 2) (i32.const 3))) (global $h (mut i32) (i32.const 1))",
        "(call $say (i32.add (global.get $g) (global.get $h))) (global.set $h (i32.const 2))",
        "6",
    ),
    (
        ANEW,
        r#"(global $at i32 (i32.const 4000)) (data (i32.add (global.get $at) (i32.const 96)) "\01\02\03\04\05\06\07\08")"#,
        "(call $say (i32.load8_u (i32.const 4099))) (i32.store8 (i32.const 4099) (i32.const 0))",
        "4",
    ),
];

#[test]
fn what_a_call_changes_in_its_instance_no_other_finds() {
    for (_, parts, body, found) in CHANGES {
        let transcript = format!("> call m.run\n{found}\n").repeat(3);
        check(&[module(parts, body)], &transcript);
    }
}

#[test]
fn an_instance_that_was_set_back_takes_as_much_fuel_as_one_that_was_made() {
    runtime().block_on(async {
        for (is_rewound, parts, body, _) in CHANGES {
            let mut talk = talk().await;
            talk.push(&module(parts, body)).await.unwrap();
            let described = talk.core.runtime.made_instances();
            let mut fuel = Vec::new();
            for _ in 0..4 {
                match talk.request("call m.run --dry-run").await.unwrap() {
                    Reply::DryRun(told) => fuel.push(told.fuel),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(fuel, [fuel[0]; 4], "{parts} {body}");
            let made = talk.core.runtime.made_instances() - described;
            let expected = if is_rewound { 1 } else { 4 };
            assert_eq!(made, expected, "{parts} {body}");
        }
    });
}

#[test]
fn what_a_call_changed_before_it_failed_or_refused_no_other_finds() {
    let body = "(i32.add (i32.const 3) (i32.load8_u (i32.const 4096))) (i32.store8 (i32.const 4096) (i32.const 1)) (return)";
    let refuses = module("", body);
    let refused = "> call m.run\nrejected: m.run refused with the code 3\n";
    check(&[refuses], &refused.repeat(3));
    // It traps where it finds what another left.
    let body = "(if (i32.load8_u (i32.const 4096)) (then (unreachable))) (i32.store8 (i32.const 4096) (i32.const 1)) (drop (i32.load (i32.const 65536)))";
    let trapped = "> call m.run\ntrap: … out of bounds memory access…\n";
    check(&[module("", body)], &trapped.repeat(3));
}

async fn talk() -> Talk<MemoryStore> {
    let config = Config {
        max_instances: 64,
        ..Config::default()
    };
    Talk::new(open_memory(&clock()), &config, clock()).await
}

/// An instance that waits is none for a call that may have less than it begins with.
#[test]
fn a_call_that_may_have_less_than_an_instance_begins_with_gets_none_that_waits() {
    runtime().block_on(async {
        let mut talk = talk().await;
        let tables = "(table 100 funcref)";
        talk.push(&module(tables, "")).await.unwrap();
        talk.request("call m.run").await.unwrap();
        for limits in [
            LimitsRequest {
                memory_bytes: Some(65_535),
                ..LimitsRequest::default()
            },
            LimitsRequest {
                table_elements: Some(99),
                ..LimitsRequest::default()
            },
        ] {
            let command = Command::Call(Call {
                procedure: "m.run".into(),
                arguments: b""[..].into(),
                dry_run: None,
                limits: Some(Box::new(limits)),
            });
            let error = talk.ask("", command, Options::default()).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::MemoryExceeded, "{error:?}");
        }
        talk.request("call m.run").await.unwrap();
    });
}

#[test]
fn names_by_which_instances_are_set_back_are_refused() {
    let own = module(
        r#"(global (export "luge:rewind:0") (mut i32) (i32.const 0))"#,
        "",
    );
    assert!(refused(&own).contains("names that begin with `luge:rewind:` are the server's own"));
}

/// A binary with more bytes behind its exports than it counts.
fn with_bytes_behind_exports(wasm: &[u8], behind: &[u8]) -> Vec<u8> {
    let mut made = wasm[..8].to_vec();
    let mut at = 8;
    while at < wasm.len() {
        let (id, length) = (wasm[at], usize::from(wasm[at + 1]));
        assert!(length < 128, "the sections of this module are short");
        let content = &wasm[at + 2..at + 2 + length];
        let behind = if id == 7 { behind } else { &[] };
        made.push(id);
        made.push(u8::try_from(length + behind.len()).unwrap());
        made.extend_from_slice(content);
        made.extend_from_slice(behind);
        at += 2 + length;
    }
    made
}

fn binary(wasm: Vec<u8>) -> Push {
    Push {
        wasm: Some(wasm),
        ..Push::new("m", "")
    }
}

/// Bytes behind the last of its exports became exports, since two are added and counted: a module could so say of itself
/// that its instances can be set back, without what must be, and one client found what another had left.
#[test]
fn a_module_can_not_say_of_itself_that_its_instances_can_be_set_back() {
    let text = r#"(module (global $g (mut i32) (i32.const 3))
        (func (export "run") (result i32) (global.get $g)))"#;
    let wasm = wat::parse_str(text).unwrap();
    for name in ["luge:rewind:mark", "luge:rewind:with 0"] {
        let mut forged = vec![u8::try_from(name.len()).unwrap()];
        forged.extend_from_slice(name.as_bytes());
        forged.extend_from_slice(&[0, 0, 33]);
        let message = refused(&binary(with_bytes_behind_exports(&wasm, &forged)));
        assert!(message.contains("unexpected data at the end"), "{message}");
        let message = refused(&binary(with_bytes_behind_exports(&wasm, &[0x11])));
        assert!(message.contains("unexpected data at the end"), "{message}");
    }
}

/// What is added to a binary made valid what was not, made invalid what was valid, and moved the places that messages name.
#[test]
fn a_module_is_looked_at_as_it_was_pushed() {
    let undeclared = r#"(module (memory (export "memory") 1) (func $f)
        (func (export "run") (result i32) (drop (ref.func $f)) (i32.const 0)))"#;
    let message = refused(&Push::new("m", undeclared));
    assert!(
        message.contains("undeclared function reference"),
        "{message}"
    );
    let untyped = r#"(module (memory (export "memory") 1) (func (export "run") (result i32)))"#;
    let message = refused(&Push::new("m", untyped));
    let length = wat::parse_str(untyped).unwrap().len();
    let place = message.rsplit("offset 0x").next().unwrap();
    let place = usize::from_str_radix(
        place.trim_end_matches(|it: char| !it.is_ascii_hexdigit()),
        16,
    );
    assert!(place.unwrap() < length, "{message}");
    // It has no function that could be called by another name.
    let empty = Push::new("m", r#"(module (memory (export "memory") 1))"#);
    check(&[empty], "> set k v\nv2\n");
}

#[test]
fn a_describer_leaves_no_instance_behind() {
    runtime().block_on(async {
        let mut talk = talk().await;
        talk.push(&module("", "")).await.unwrap();
        assert_eq!(talk.core.runtime.made_instances(), 1);
        talk.request("call m.run").await.unwrap();
        assert_eq!(talk.core.runtime.made_instances(), 2);
        talk.request("call m.run").await.unwrap();
        assert_eq!(talk.core.runtime.made_instances(), 2);
    });
}
