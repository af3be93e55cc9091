//! Procedures that call the host again and again: with sense, and then it is known what they leave; or
//! with any arguments.

use std::collections::BTreeMap;

use luge_benches::random::Random;

use crate::imports::{IMPORTS, Import, functions};

/// What a store holds.
pub(crate) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys lie one after the other at the beginning of memory, two bytes each, and behind them values.
const KEYS: u64 = 8;
const VALUES_AT: u64 = 1_024;
const SCRATCH_AT: u64 = 32_768;

/// A procedure `run`, and what it does where it comes to its end.
pub(crate) struct Sequence {
    pub(crate) wat: String,
    /// `None` where nobody knows.
    pub(crate) expected: Option<Expected>,
}

/// What a sequence whose arguments have sense comes to.
pub(crate) struct Expected {
    /// What the store holds then.
    pub(crate) after: Model,
    /// Whether it succeeds.
    pub(crate) succeeds: bool,
}

/// Host calls with sense, of which the last may be one that fails, or be followed by a refusal.
pub(crate) fn sensible(random: &mut Random, before: &Model) -> Sequence {
    let mut model = before.clone();
    let count = 1 + random.below(40);
    let mut body: String = (0..count).map(|_| step(random, &mut model)).collect();
    let is_fatal = random.percent(20);
    if is_fatal {
        body += &fatal(random);
    }
    let refuses = random.percent(20);
    let wat = module(&body, i64::from(refuses));
    let succeeds = !is_fatal && !refuses;
    let expected = Some(Expected {
        after: model,
        succeeds,
    });
    Sequence { wat, expected }
}

/// Host calls with any arguments.
pub(crate) fn any(random: &mut Random) -> Sequence {
    let known = functions();
    let count = 1 + random.below(12);
    let body: String = (0..count)
        .filter_map(|_| {
            let import = random.pick(&known)?.clone();
            // Those for hooks end every procedure at once.
            let is_for_hooks = import.name.starts_with("re");
            (!is_for_hooks || random.percent(5)).then(|| any_call(random, &import))
        })
        .collect();
    Sequence {
        wat: module(&body, 0),
        expected: None,
    }
}

fn any_call(random: &mut Random, import: &Import) -> String {
    let number = |random: &mut Random| match random.below(8) {
        0 => random.bits().cast_signed(),
        1 => -1,
        2 => 65_536 - random.below(10).cast_signed(),
        3 => i64::from(i32::MAX),
        4 => random.below(SCRATCH_AT).cast_signed(),
        _ => random.below(9).cast_signed(),
    };
    let arguments: Vec<i64> = import.parameters.iter().map(|_| number(random)).collect();
    import.call(&arguments)
}

/// A host call that can't fail, and what it does to the store.
fn step(random: &mut Random, model: &mut Model) -> String {
    let at = random.below(KEYS);
    let key = key(at);
    let place = at * 2;
    match random.below(7) {
        0 | 1 => {
            let length = random.below(64);
            model.insert(key, vec![b'v'; usize::try_from(length).unwrap_or(0)]);
            format!(
                "(call $kv_set (i32.const {place}) (i32.const 2) (i32.const {VALUES_AT}) (i32.const {length}) (i64.const 0))\n"
            )
        }
        2 => {
            model.remove(&key);
            format!("(drop (call $kv_delete (i32.const {place}) (i32.const 2)))\n")
        }
        3 => {
            let delta = random.bits().cast_signed() >> random.below(63);
            add(model, key, delta);
            format!(
                "(drop (call $kv_incr (i32.const {place}) (i32.const 2) (i64.const {delta}) (i32.const {SCRATCH_AT})))\n"
            )
        }
        4 => {
            let (off, cap) = (random.below(100), random.below(1_000));
            format!(
                "(drop (call $kv_get (i32.const {place}) (i32.const 2) (i32.const {off}) (i32.const {SCRATCH_AT}) (i32.const {cap})))\n"
            )
        }
        5 => {
            let (flags, cap) = (random.below(4), random.below(1_000));
            format!(
                "(local.set $scan (call $kv_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {flags})))
                (drop (call $kv_scan_next (local.get $scan) (i32.const {SCRATCH_AT}) (i32.const {cap})))
                (call $kv_scan_close (local.get $scan))\n"
            )
        }
        _ => format!(
            "(call $random_fill (i32.const {SCRATCH_AT}) (i32.const {}))\n",
            random.below(1_000)
        ),
    }
}

/// What an `incr` does: nothing where there is no number, or the sum does not fit.
fn add(model: &mut Model, key: Vec<u8>, delta: i64) {
    let held = model.get(&key).map_or(Some(0), |value| number(value));
    if let Some(sum) = held.and_then(|held| held.checked_add(delta)) {
        model.insert(key, sum.to_string().into_bytes());
    }
}

fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse()
        .ok()
        .filter(|number: &i64| number.to_string() == text)
}

/// A host call that ends the procedure.
fn fatal(random: &mut Random) -> String {
    let calls = [
        "(call $kv_set (i32.const 65535) (i32.const 2) (i32.const 0) (i32.const 1) (i64.const 0))",
        "(call $kv_set (i32.const 0) (i32.const 2) (i32.const 0) (i32.const -1) (i64.const 0))",
        "(call $kv_set (i32.const 0) (i32.const 1025) (i32.const 0) (i32.const 1) (i64.const 0))",
        "(call $kv_set (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i64.const 0))",
        "(call $kv_set (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 1) (i64.const -2))",
        "(drop (call $kv_incr (i32.const 0) (i32.const 2) (i64.const 1) (i32.const 65529)))",
        "(drop (call $kv_delete (i32.const -1) (i32.const -1)))",
        "(drop (call $kv_scan_next (i32.const 15) (i32.const 0) (i32.const 100)))",
        "(drop (call $kv_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 4)))",
        "(call $log (i32.const 5) (i32.const 0) (i32.const 0))",
        "(drop (call $request_command))",
        "(call $response_set_value (i32.const 0) (i32.const 1))",
        "unreachable",
    ];
    random
        .pick(&calls)
        .map_or_else(String::new, |call| (*call).to_owned())
}

/// The key of this place.
fn key(at: u64) -> Vec<u8> {
    format!("k{at}").into_bytes()
}

fn module(body: &str, number: i64) -> String {
    let keys: String = (0..KEYS).map(|at| format!("k{at}")).collect();
    let values = "v".repeat(64);
    format!(
        r#"(module {IMPORTS} (memory (export "memory") 1)
        (data (i32.const 0) "{keys}") (data (i32.const {VALUES_AT}) "{values}")
        (func (export "run") (result i32) (local $scan i32) {body} (i32.const {number})))"#
    )
}
