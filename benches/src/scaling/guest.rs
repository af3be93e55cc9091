//! Modules as small as they can be, in text, with a number in them.

use std::fmt::Write;

/// What the keys begin with that hooks are around.
pub const HOOKED: &str = "key:";

/// What no key of a sweep begins with.
pub const ELSEWHERE: &str = "elsewhere:";

/// A module whose procedure `noop` does nothing, and that differs from those with other numbers.
#[must_use]
pub fn noop(number: u64) -> String {
    format!(
        r#"(module (memory (export "memory") 1) (func (export "noop") (result i32) (drop (i64.const {number})) (i32.const 0)))"#
    )
}

/// A module with so many hooks before a `set` of keys with this prefix, each of which lets it pass. The number makes it
/// differ from others.
#[must_use]
pub fn hooks(count: u64, prefix: &str, number: u64) -> String {
    let (mut lines, mut functions, mut length) = (String::new(), String::new(), 0);
    for hook in 0..count {
        let line = format!(
            r#"{{"hook":"h{hook}","phase":"request","commands":["set"],"prefix":"{prefix}"}}"#
        );
        length += line.len() + 1;
        let _ = write!(lines, "{}\\0a", line.replace('"', "\\22"));
        let _ = write!(
            functions,
            "\n(func (export \"h{hook}\") (result i32) (i32.const 0))"
        );
    }
    format!(
        r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{lines}")
        (func (export "number") (result i32) (drop (i64.const {number})) (i32.const 0))
        (func (export "metadata") (result i32) (call $output (i32.const 0) (i32.const {length})) (i32.const 0)){functions})"#
    )
}

/// A module with the procedures `read` and `write` of so many keys each. Their input is a text of 15 bytes; each of the
/// keys is that text and two bytes more.
#[must_use]
pub fn sets(count: u64) -> String {
    // The text stands behind the byte that tells its length, at 1025; the two bytes at 1040.
    let each = |body: &str| {
        format!(
            r#"(local $at i32)
            (drop (call $input (i32.const 0) (i32.const 1024) (i32.const 16)))
            (loop $more
                (i32.store16 (i32.const 1040) (local.get $at))
                {body}
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $at) (i32.const {count}))))
            (i32.const 0)"#
        )
    };
    let read = each(
        "(drop (call $get (i32.const 1025) (i32.const 17) (i32.const 0) (i32.const 2048) (i32.const 64)))",
    );
    let write = each(
        "(call $set (i32.const 1025) (i32.const 17) (i32.const 4096) (i32.const 64) (i64.const 0))",
    );
    format!(
        r#"(module
        (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
        (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
        (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
        (memory (export "memory") 1)
        (func (export "read") (result i32) {read})
        (func (export "write") (result i32) {write}))"#
    )
}

/// A module as bytes.
///
/// # Errors
/// The text is none.
pub fn binary(text: &str) -> Result<Vec<u8>, String> {
    wat::parse_str(text).map_err(|error| format!("a module that is not well-formed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_well_formed_and_differ_by_their_number() {
        let binaries = [
            noop(0),
            noop(9_999),
            hooks(0, HOOKED, 0),
            hooks(32, ELSEWHERE, 0),
            hooks(32, ELSEWHERE, 1),
            sets(1),
            sets(1_000),
        ]
        .map(|text| binary(&text).unwrap());
        for (at, one) in binaries.iter().enumerate() {
            assert!(binaries.iter().skip(at + 1).all(|other| other != one));
        }
    }

    #[test]
    fn a_describer_says_all_of_its_lines() {
        let text = hooks(12, HOOKED, 0);
        let data = text.split("(data (i32.const 0) \"").nth(1).unwrap();
        let data = data.split("\")").next().unwrap();
        let said = data.replace("\\22", "\"").replace("\\0a", "\n");
        assert_eq!(said.lines().count(), 12);
        assert!(
            said.lines()
                .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        );
        assert!(text.contains(&format!("(i32.const {}))", said.len())));
    }
}
