//! What a module may be made of. A compiler takes time and memory by more than a function's length: so a
//! module that is small as a whole may still hold one up for minutes. These bounds are several times what
//! compilers of Rust, Go and C make.

use std::ops::Range;

use wasmparser::{FunctionBody, Operator, Parser, Payload};

/// Bounds on the entries of a section: its name, and the most.
const MAX_ENTRIES: [(&str, u32); 7] = [
    ("types", 10_000),
    ("imports", 1_000),
    ("functions", 50_000),
    ("globals", 10_000),
    ("exports", 8_192),
    ("element segments", 10_000),
    // Go cuts its data at every stretch of zeros.
    ("data segments", 65_536),
];

/// The longest body of a function, in bytes.
const MAX_FUNCTION_BYTES: usize = 256 << 10;

/// The most locals of a function.
const MAX_LOCALS: u64 = 5_000;

/// The most targets of all `br_table`s of a function.
const MAX_BRANCH_TARGETS: u64 = 16_384;

/// How deep blocks may be nested.
const MAX_NESTING: usize = 1_000;

/// Refuses what exceeds a bound. What is no module at all is left to the compiler to tell.
pub(super) fn check(wasm: &[u8]) -> Result<(), String> {
    let mut function = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { return Ok(()) };
        check_section(&payload)?;
        if let Payload::CodeSectionEntry(body) = payload {
            check_body(&body).map_err(|what| format!("its function {function} has {what}"))?;
            function = function.saturating_add(1);
        }
    }
    Ok(())
}

fn check_section(payload: &Payload<'_>) -> Result<(), String> {
    let (name, count) = match payload {
        Payload::TypeSection(section) => ("types", section.count()),
        Payload::ImportSection(section) => ("imports", section.count()),
        Payload::FunctionSection(section) => ("functions", section.count()),
        Payload::GlobalSection(section) => ("globals", section.count()),
        Payload::ExportSection(section) => ("exports", section.count()),
        Payload::ElementSection(section) => ("element segments", section.count()),
        Payload::DataSection(section) => ("data segments", section.count()),
        _ => return Ok(()),
    };
    match MAX_ENTRIES.iter().find(|(it, _)| *it == name) {
        Some((_, max)) if count > *max => Err(format!(
            "it has {count} {name}, which exceeds the limit of {max}"
        )),
        _ => Ok(()),
    }
}

fn check_body(body: &FunctionBody<'_>) -> Result<(), String> {
    let exceeds = |what: &str, count: u64, limit: u64| match count > limit {
        true => Err(format!(
            "{count} {what}, which exceeds the limit of {limit}"
        )),
        false => Ok(()),
    };
    let Range { start, end } = body.range();
    let length = end.saturating_sub(start);
    exceeds("bytes", length as u64, MAX_FUNCTION_BYTES as u64)?;
    let Ok(locals) = body.get_locals_reader() else {
        return Ok(());
    };
    let counts = locals.into_iter().map_while(Result::ok);
    let locals: u64 = counts.map(|(count, _)| u64::from(count)).sum();
    exceeds("locals", locals, MAX_LOCALS)?;
    let Ok(operators) = body.get_operators_reader() else {
        return Ok(());
    };
    let (mut nesting, mut targets) = (0_usize, 0_u64);
    for operator in operators {
        match operator {
            Ok(Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. }) => {
                nesting += 1;
                exceeds(
                    "blocks within one another",
                    nesting as u64,
                    MAX_NESTING as u64,
                )?;
            }
            Ok(Operator::End) => nesting = nesting.saturating_sub(1),
            Ok(Operator::BrTable { targets: table }) => {
                targets += u64::from(table.len());
                exceeds("targets of its `br_table`s", targets, MAX_BRANCH_TARGETS)?;
            }
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), String> {
        check(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn a_module_of_many_parts_is_refused_with_the_count_and_the_limit() {
        let types: String = (0..10_001)
            .map(|number| format!("(type (func (param i32 {})))", "i64 ".repeat(number % 100)))
            .collect();
        let refused = checked(&format!("(module {types})")).unwrap_err();
        assert_eq!(
            refused,
            "it has 10001 types, which exceeds the limit of 10000"
        );
        let globals = "(global i32 (i32.const 0))".repeat(10_001);
        let refused = checked(&format!("(module {globals})")).unwrap_err();
        assert_eq!(
            refused,
            "it has 10001 globals, which exceeds the limit of 10000"
        );
        let functions = "(func)".repeat(50_001);
        let refused = checked(&format!("(module {functions})")).unwrap_err();
        assert_eq!(
            refused,
            "it has 50001 functions, which exceeds the limit of 50000"
        );
    }

    #[test]
    fn a_function_that_would_hold_up_the_compiler_is_refused() {
        let long = "(drop (i32.const 1))".repeat(90_000);
        let refused = checked(&format!("(module (func) (func {long}))")).unwrap_err();
        assert!(
            refused.starts_with("its function 1 has 27")
                && refused.ends_with("bytes, which exceeds the limit of 262144"),
            "{refused}"
        );
        let locals = "i32 ".repeat(5_001);
        assert_eq!(
            checked(&format!("(module (func (local {locals})))")).unwrap_err(),
            "its function 0 has 5001 locals, which exceeds the limit of 5000"
        );
        let targets = "0 ".repeat(16_384);
        assert_eq!(
            checked(&format!(
                "(module (func (br_table {targets} 0 (i32.const 0)) (br_table 0 0 (i32.const 0))))"
            ))
            .unwrap_err(),
            "its function 0 has 16385 targets of its `br_table`s, which exceeds the limit of 16384"
        );
        let blocks = format!("{}{}", "block ".repeat(1_001), "end ".repeat(1_001));
        assert_eq!(
            checked(&format!("(module (func {blocks}))")).unwrap_err(),
            "its function 0 has 1001 blocks within one another, which exceeds the limit of 1000"
        );
    }

    #[test]
    fn what_is_no_module_is_left_to_the_compiler() {
        let module = wat::parse_str("(module (func (export \"run\") (result i32) (i32.const 0)))");
        let module = module.unwrap();
        for cut in 0..=module.len() {
            assert_eq!(check(&module[..cut]), Ok(()));
        }
        assert_eq!(check(b"\0asm\x01\0\0\0\x0a\xff\xff\xff\xff\x0f"), Ok(()));
    }
}
