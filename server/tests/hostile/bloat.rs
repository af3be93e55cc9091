//! Modules that are too large to be written down: of everything that a binary has, too much.

use crate::corpus::{Act, Case, End, Step};

/// What may become of a module that is large in a way which the format itself permits: the compiler may
/// take it or leave it, and neither takes the server along.
const EITHER: &[&str] = &["ok", "invalid_module"];

pub(crate) fn cases() -> Vec<Case> {
    [functions(), declarations(), headers(), describers()]
        .into_iter()
        .flatten()
        .collect()
}

const RUN: &str = r#"(func $run (export "run") (result i32) (i32.const 0))"#;

fn refused(name: &str, body: &str, says: &str) -> Case {
    let wasm = wat::parse_str(format!("(module {body} {RUN})")).unwrap();
    Case::binary(name, wasm, "invalid_module", says)
}

fn served(name: &str, body: &str) -> Case {
    let wat = format!("(module {body} {RUN})");
    Case::pushed(name, &wat).and(Act::Call("run".to_owned()), "ok", "")
}

fn either(name: &str, body: &str) -> Case {
    let mut case = Case::pushed(name, &format!("(module {body} {RUN})"));
    let act = Act::Push;
    case.steps = vec![Step {
        act,
        end: End::OneOf(EITHER),
    }];
    case
}

/// Code.
fn functions() -> Vec<Case> {
    let sum = "(local.set 0 (i32.add (local.get 0) (i32.const 1)))";
    let nest = |count: usize| format!("(func {}{})", "(block ".repeat(count), ")".repeat(count));
    let branches = |count: usize| {
        format!(
            "(func (block (br_table {} (i32.const 0))))",
            "0 ".repeat(count)
        )
    };
    let calls = "(call $run) drop ".repeat(200_000);
    vec![
        either(
            "one function of half a megabyte",
            &format!("(func (local i32) {})", sum.repeat(75_000)),
        ),
        either("a deep nest", &nest(20_000)),
        either("a long table of branches", &branches(60_000)),
        refused("a table of branches without end", &branches(1_000_000), ""),
        either("many calls", &format!("(func {calls})")),
        served("many functions", &"(func)".repeat(5_000)),
        served(
            "many locals",
            &format!("(func (local {}))", "i64 ".repeat(5_000)),
        ),
        refused(
            "more locals than a compiler makes",
            &format!("(func (local {}))", "i64 ".repeat(10_000)),
            "has 10000 locals, which exceeds the limit of 5000",
        ),
        refused(
            "more locals than the format has",
            &format!("(func (local {}))", "i64 ".repeat(50_001)),
            "local",
        ),
        refused(
            "a thousand and one parameters",
            &format!("(func (param {}))", "i64 ".repeat(1_001)),
            "",
        ),
        either(
            "a thousand results",
            &format!("(func (result {}) unreachable)", "i64 ".repeat(1_000)),
        ),
    ]
}

/// Types, data, tables, globals and exports.
fn declarations() -> Vec<Case> {
    let numbered =
        |count: usize, line: fn(usize) -> String| (0..count).map(line).collect::<String>();
    let exports = numbered(4_097, |at| format!(r#"(export "e{at}" (func 0))"#));
    let procedures = numbered(257, |at| format!(r#"(export "p{at}" (func 0))"#));
    let distinct = numbered(5_000, |at| {
        let bits = (0..15).map(|bit| if at >> bit & 1 == 0 { "i32 " } else { "i64 " });
        format!("(type (func (param {})))", bits.collect::<String>())
    });
    let long = "n".repeat(99_000);
    let memory = r#"(memory (export "memory") 64)"#;
    vec![
        served("many types", &distinct),
        refused(
            "more exports than are kept",
            &exports,
            "exports 4098 functions",
        ),
        refused(
            "more procedures than are offered",
            &procedures,
            "exceeds the limit of 256",
        ),
        either(
            "a name of 99,000 letters",
            &format!(r#"(export "{long}" (func 0))"#),
        ),
        refused(
            "an import with a long name",
            &format!(r#"(import "luge_v1" "{long}" (func))"#),
            "does not have",
        ),
        served("many globals", &"(global i64 (i64.const 1))".repeat(10_000)),
        served(
            "much data",
            &format!(r#"{memory} (data (i32.const 0) "{}")"#, "d".repeat(3 << 20)),
        ),
        served(
            "many pieces of data",
            &format!("{memory} {}", r#"(data (i32.const 0) "d")"#.repeat(50_000)),
        ),
        refused(
            "more pieces of data than a compiler makes",
            &format!("{memory} {}", r#"(data (i32.const 0) "d")"#.repeat(65_537)),
            "has 65537 data segments, which exceeds the limit of 65536",
        ),
        refused(
            "more pieces of data than the format has",
            &format!("{memory} {}", r#"(data "d")"#.repeat(100_001)),
            "",
        ),
        served(
            "a full table",
            &format!(
                "(table 20000 funcref) (elem (i32.const 0) {})",
                "0 ".repeat(20_000)
            ),
        ),
        refused(
            "a table beyond its limit",
            &format!("(table funcref (elem {}))", "0 ".repeat(20_001)),
            "table",
        ),
        either(
            "many pieces of elements",
            &format!(
                "(table 1 funcref) {}",
                "(elem (i32.const 0) 0)".repeat(50_000)
            ),
        ),
    ]
}

/// Binaries that are none, or carry what nobody reads.
fn headers() -> Vec<Case> {
    let plain = wat::parse_str(format!("(module {RUN})")).unwrap();
    let custom = |name: &str, bytes: usize| {
        let mut section = vec![u8::try_from(name.len()).unwrap()];
        section.extend_from_slice(name.as_bytes());
        section.resize(section.len() + bytes, b'c');
        let mut wasm = plain.clone();
        wasm.push(0);
        wasm.extend_from_slice(&leb(section.len()));
        wasm.extend_from_slice(&section);
        wasm
    };
    let mut cases = vec![
        Case::binary(
            "a custom section of 3 MiB",
            custom("luge", 3 << 20),
            "ok",
            "",
        ),
        Case::binary(
            "a section of names without sense",
            custom("name", 1 << 20),
            "ok",
            "",
        ),
        Case::binary(
            "lines without sense",
            custom(".debug_line", 1 << 20),
            "ok",
            "",
        ),
        Case::binary(
            "more than 4 MiB",
            custom("luge", 4 << 20),
            "invalid_module",
            "exceeds the limit of 4194304",
        ),
        Case::binary(
            "nothing",
            Vec::new(),
            "invalid_module",
            "it is no WebAssembly binary",
        ),
        Case::binary(
            "text",
            b"(module)".to_vec(),
            "invalid_module",
            "it is no WebAssembly binary",
        ),
        Case::binary(
            "a component",
            b"\0asm\x0d\0\x01\0".to_vec(),
            "invalid_module",
            "it is a component",
        ),
        Case::binary(
            "another version",
            b"\0asm\x02\0\0\0".to_vec(),
            "invalid_module",
            "a version of WebAssembly",
        ),
        Case::binary(
            "a section that ends too early",
            b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f".to_vec(),
            "invalid_module",
            "",
        ),
    ];
    for cut in 8..plain.len() {
        let mut case = Case::binary(format!("cut at {cut}"), plain[..cut].to_vec(), "", "");
        case.steps[0].end = End::OneOf(EITHER);
        cases.push(case);
    }
    for at in 8..plain.len() {
        let mut wasm = plain.clone();
        wasm[at] ^= 0xff;
        let mut case = Case::binary(format!("turned at {at}"), wasm, "", "");
        case.steps[0].end = End::OneOf(EITHER);
        cases.push(case);
    }
    cases
}

/// A length, as the format writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// What a module says of itself, at length.
fn describers() -> Vec<Case> {
    let says = |name: &str, lines: &str, code: &str, reason: &str| {
        let escaped = lines.replace('"', r"\22").replace('\n', r"\0a");
        let length = lines.len();
        let wat = format!(
            r#"(module (import "luge_v1" "output_write" (func $say (param i32 i32)))
            (memory (export "memory") 40) (data (i32.const 0) "{escaped}") {RUN}
            (func (export "metadata") (result i32) (call $say (i32.const 0) (i32.const {length})) (i32.const 0)))"#
        );
        Case::binary(name, wat::parse_str(wat).unwrap(), code, reason)
    };
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let prefixes = |count: usize| {
        let list: Vec<String> = (0..count).map(|at| format!(r#""p{at}""#)).collect();
        format!(r#"{{"grant": {{"read": [{}]}}}}"#, list.join(","))
    };
    let long = "p".repeat(1_025);
    let hook = format!(
        r#"{{"hook": "run", "phase": "request", "commands": ["set"], "prefix": "{long}"}}"#
    );
    let many: String = (0..257)
        .map(|at| format!("{{\"procedure\": \"p{at}\"}}\n"))
        .collect();
    let talk = format!(
        r#"{{"module": {{"description": "{}"}}}}"#,
        "d".repeat(1 << 20)
    );
    vec![
        says("a describer with a deep nest", &deep, "invalid_module", ""),
        says(
            "a describer with a deep nest in a field",
            &format!(r#"{{"module": {deep}}}"#),
            "invalid_module",
            "",
        ),
        says("64 prefixes", &prefixes(64), "ok", ""),
        says("65 prefixes", &prefixes(65), "invalid_module", "64"),
        says(
            "a grant for a prefix that is longer than a key",
            &format!(r#"{{"grant": {{"write": ["{long}"]}}}}"#),
            "invalid_module",
            "",
        ),
        says(
            "a hook for a prefix that is longer than a key",
            &hook,
            "invalid_module",
            "can never fire",
        ),
        says(
            "257 procedures",
            &many,
            "invalid_module",
            "exceeds the limit of 256",
        ),
        says("empty lines without end", &"\n".repeat(2 << 20), "ok", ""),
        says(
            "more output than a call has",
            &"\n".repeat((2 << 20) + 1),
            "invalid_module",
            "output",
        ),
        says("a description of 1 MiB", &talk, "ok", ""),
    ]
}
