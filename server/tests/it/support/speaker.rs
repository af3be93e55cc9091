//! A guest that tells its versions apart: every function of it says the same word.

/// The module, as a binary. `word` has at most 63 letters.
///
/// - `say` answers the word, and behind it what the hook before the call has left.
/// - `setting` answers the setting `k`.
/// - Around every `call`, one hook leaves the word where `say` finds it, and one appends it to the reply:
///   a call of `say` is answered with the word three times.
/// - Around every `set` of a key that begins with `k:`, one hook writes it to `first`, and one to `last`.
pub(crate) fn speaker(word: &str) -> Vec<u8> {
    let described = [
        r#"{"procedure": "say"}"#,
        r#"{"procedure": "setting"}"#,
        r#"{"hook": "before_call", "phase": "request", "commands": ["call"]}"#,
        r#"{"hook": "after_call", "phase": "response", "commands": ["call"]}"#,
        r#"{"hook": "before_set", "phase": "request", "commands": ["set"], "prefix": "k:"}"#,
        r#"{"hook": "after_set", "phase": "response", "commands": ["set"], "prefix": "k:"}"#,
    ]
    .join("\n");
    let length = described.len();
    let lines = described.replace('"', r"\22").replace('\n', r"\0a");
    let word_length = word.len();
    wat::parse_str(format!(
        r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
        (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
        (import "luge_v1" "config_get" (func $config (param i32 i32 i32 i32 i32) (result i64)))
        (import "luge_v1" "response_status" (func $status (result i32)))
        (import "luge_v1" "response_value" (func $response (param i32 i32 i32) (result i64)))
        (import "luge_v1" "response_set_value" (func $set_response (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{word}")
        (data (i32.const 64) "leftfirstlastk")
        (data (i32.const 4096) "{lines}")
        (global $word_length i32 (i32.const {word_length}))
        (func $write (param $key i32) (param $key_length i32)
            (call $set (local.get $key) (local.get $key_length)
                (i32.const 0) (global.get $word_length) (i64.const 0)))
        (func (export "metadata") (result i32)
            (call $output (i32.const 4096) (i32.const {length})) (i32.const 0))
        (func (export "say") (result i32)
            (call $output (i32.const 0) (global.get $word_length))
            (call $output (i32.const 1024) (i32.wrap_i64
                (call $get (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 1024) (i32.const 64))))
            (i32.const 0))
        (func (export "setting") (result i32)
            (call $output (i32.const 1024) (i32.wrap_i64
                (call $config (i32.const 77) (i32.const 1) (i32.const 0) (i32.const 1024) (i32.const 64))))
            (i32.const 0))
        (func (export "before_call") (result i32)
            (call $write (i32.const 64) (i32.const 4)) (i32.const 0))
        (func (export "after_call") (result i32) (local $length i32)
            (if (call $status) (then (return (i32.const 0))))
            (local.set $length (i32.wrap_i64
                (call $response (i32.const 0) (i32.const 1024) (i32.const 1024))))
            (memory.copy (i32.add (i32.const 1024) (local.get $length))
                (i32.const 0) (global.get $word_length))
            (call $set_response (i32.const 1024)
                (i32.add (local.get $length) (global.get $word_length)))
            (i32.const 0))
        (func (export "before_set") (result i32)
            (call $write (i32.const 68) (i32.const 5)) (i32.const 0))
        (func (export "after_set") (result i32)
            (call $write (i32.const 73) (i32.const 4)) (i32.const 0))
        (func (export "helper") (param i32) (result i64) (i64.const 0)))"#
    ))
    .unwrap()
}
