//! Modules of `wasm-smith`: valid, and without any sense.

use arbitrary::Unstructured;
use luge_benches::random::Random;
use wasm_smith::{Config, Module};

use crate::imports::IMPORTS;

/// The procedures that each has.
pub(crate) const PROCEDURES: [&str; 3] = ["f0", "f1", "f2"];

/// What is exported: procedures, a memory, and of some a describer or an `_initialize`.
fn exports(random: &mut Random) -> String {
    let function = |name: &&str| format!(r#"(func (export "{name}") (result i32) unreachable)"#);
    let mut text: String = PROCEDURES.iter().map(function).collect();
    text += r#"(memory (export "memory") 1)"#;
    if random.percent(10) {
        text += &function(&"metadata");
    }
    if random.percent(20) {
        text += r#"(func (export "_initialize"))"#;
    }
    format!("(module {text})")
}

/// A module, or nothing where the generator ran out of bytes.
///
/// # Errors
/// The templates are not well-formed.
pub(crate) fn module(random: &mut Random) -> Result<Option<Vec<u8>>, String> {
    let translate = |text: String| wat::parse_str(text).map_err(|error| error.to_string());
    let config = Config {
        available_imports: Some(translate(format!("(module {IMPORTS})"))?),
        exports: Some(translate(exports(random))?),
        allow_start_export: random.percent(20),
        max_instructions: 400,
        max_imports: 40,
        min_funcs: 4,
        // The exported one is made in any case.
        max_memories: 0,
        max_memory32_bytes: 16 << 20,
        max_table_elements: 1_000,
        ..features(random)
    };
    let length = 512 << random.below(6);
    let bytes: Vec<u8> = (0..length)
        .map(|_| random.bits().to_le_bytes()[0])
        .collect();
    let module = Module::new(config, &mut Unstructured::new(&bytes));
    Ok(module.ok().map(|module| module.to_bytes()))
}

/// What servers know; now and then one thing that they don't.
fn features(random: &mut Random) -> Config {
    let unknown = match random.percent(10) {
        true => random.below(5),
        false => u64::MAX,
    };
    Config {
        exceptions_enabled: unknown == 0,
        gc_enabled: unknown == 1,
        relaxed_simd_enabled: unknown == 2,
        tail_call_enabled: unknown == 3,
        threads_enabled: unknown == 4,
        compact_imports_enabled: false,
        memory64_enabled: false,
        // With them come references to what is outside, which need a collector of garbage.
        reference_types_enabled: unknown == 1,
        wide_arithmetic_enabled: false,
        ..Config::default()
    }
}
