//! What is added to a binary before it is compiled: exports by which its instances can be rewound.
//!
//! They are added where a call can change nothing of an instance but its memory and some globals. Then all else is as it
//! was when it was made: the tables and the segments, which no instruction changes, and the functions.
//! The engine has no other objects (no garbage collection, no shared memories, no exceptions).

use std::borrow::Cow;

use wasmparser::{ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef, ValType};

use super::engine::KEPT_MEMORY_BYTES;
use super::lines::read_leb;
use super::module::shortened;

/// To be raised when binaries are prepared otherwise: what was compiled before is then compiled anew.
pub(super) const REVISION: u32 = 2;

/// The beginning of the names that are added, and which no module may have.
const NAMES: &str = "luge:rewind:";

/// The beginning of the name that says that a module's instances can be rewound; behind it stands how many globals it
/// takes. It is another name of the module's first function.
const MARK: &str = "luge:rewind:with ";

/// The most mutable globals of a module whose instances are rewound: each is set back by a call into the runtime.
/// What Rust and C make has one, what Go makes eight.
const MAX_GLOBALS: usize = 32;

/// The most exports of such a module.
const MAX_EXPORTS: u32 = 4_096;

/// The binary with the exports by which its instances can be rewound, where they can be. It must be valid: what stands
/// behind its exports, say, would come to stand among them.
///
/// # Errors
/// It has a name that is the server's own.
pub(super) fn prepare(wasm: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let changes = changes(wasm)?;
    let prepared = changes.and_then(|globals| with_exports(wasm, &globals));
    Ok(prepared.map_or(Cow::Borrowed(wasm), Cow::Owned))
}

/// How many globals are rewound, as this export of a module says it, if it does.
pub(super) fn mark(name: &str) -> Option<usize> {
    name.strip_prefix(MARK)?.parse().ok()
}

/// Whether an export was added to a module.
pub(super) fn is_added(name: &str) -> bool {
    name.starts_with(NAMES)
}

/// The mutable globals of a module in which a call changes nothing but these and the memory.
fn changes(wasm: &[u8]) -> Result<Option<Vec<u32>>, String> {
    let mut globals = Vec::new();
    let (mut can_be, mut has_memory, mut shows_memory) = (true, false, false);
    let mut has_functions = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else {
            return Ok(None);
        };
        has_memory |= matches!(payload, Payload::MemorySection(_));
        has_functions |= matches!(payload, Payload::CodeSectionEntry(_));
        if let Payload::ExportSection(section) = &payload {
            for export in section.clone() {
                let Ok(export) = export else { return Ok(None) };
                check_name(export.name)?;
                shows_memory |= export.name == "memory" && export.kind == ExternalKind::Memory;
            }
        }
        can_be = can_be && allows(&payload, &mut globals);
    }
    can_be &= has_functions && globals.len() <= MAX_GLOBALS;
    can_be &= shows_memory || !has_memory;
    Ok(can_be.then_some(globals))
}

fn check_name(name: &str) -> Result<(), String> {
    match is_added(name) {
        true => Err(format!(
            "it exports `{}`; names that begin with `{NAMES}` are the server's own",
            shortened(name)
        )),
        false => Ok(()),
    }
}

/// Whether this part of a module leaves its instances to be rewound. Adds the mutable globals.
fn allows(payload: &Payload<'_>, globals: &mut Vec<u32>) -> bool {
    match payload {
        Payload::ImportSection(section) => {
            let mut imports = section.clone().into_imports();
            imports.all(|import| import.is_ok_and(|it| matches!(it.ty, TypeRef::Func(_))))
        }
        Payload::MemorySection(section) => {
            let mut memories = section.clone().into_iter();
            section.count() <= 1
                && memories.all(|memory| {
                    let bytes = memory.map(|it| it.initial.saturating_mul(65_536));
                    bytes.is_ok_and(|bytes| bytes <= KEPT_MEMORY_BYTES as u64)
                })
        }
        Payload::GlobalSection(section) => {
            section
                .clone()
                .into_iter()
                .zip(0_u32..)
                .all(|(global, index)| {
                    let Ok(global) = global else { return false };
                    if global.ty.mutable {
                        globals.push(index);
                    }
                    !global.ty.mutable || !matches!(global.ty.content_type, ValType::Ref(_))
                })
        }
        Payload::ExportSection(section) => section.count() <= MAX_EXPORTS,
        // What it does can't be told from what a call does.
        Payload::StartSection { .. } | Payload::TagSection(_) => false,
        Payload::CodeSectionEntry(body) => leaves_tables_and_segments(body),
        _ => true,
    }
}

fn leaves_tables_and_segments(body: &FunctionBody<'_>) -> bool {
    let Ok(operators) = body.get_operators_reader() else {
        return false;
    };
    operators.into_iter().all(|operator| match operator {
        Ok(
            Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::DataDrop { .. },
        )
        | Err(_) => false,
        Ok(_) => true,
    })
}

/// The module with its globals exported, and the mark; `None` if it exports nothing.
fn with_exports(wasm: &[u8], globals: &[u32]) -> Option<Vec<u8>> {
    const EXPORTS: u8 = 7;
    let (header, mut rest) = wasm.split_at_checked(8)?;
    let mut made = header.to_vec();
    let mut has_exports = false;
    while let Some((id, tail)) = rest.split_first() {
        let (length, tail) = read_leb(tail)?;
        let (content, tail) = tail.split_at_checked(length)?;
        made.push(*id);
        if *id == EXPORTS {
            has_exports = true;
            let content = longer(content, globals)?;
            write_leb(&mut made, content.len());
            made.extend_from_slice(&content);
        } else {
            write_leb(&mut made, length);
            made.extend_from_slice(content);
        }
        rest = tail;
    }
    has_exports.then_some(made)
}

/// The content of the section of exports with ours.
fn longer(content: &[u8], globals: &[u32]) -> Option<Vec<u8>> {
    const FUNCTION: u8 = 0;
    const GLOBAL: u8 = 3;
    let (count, exports) = read_leb(content)?;
    let mut made = Vec::with_capacity(content.len() + 32 * (globals.len() + 1));
    write_leb(&mut made, count + globals.len() + 1);
    made.extend_from_slice(exports);
    let mut add = |name: &str, kind, index: usize| {
        write_leb(&mut made, name.len());
        made.extend_from_slice(name.as_bytes());
        made.push(kind);
        write_leb(&mut made, index);
    };
    add(&format!("{MARK}{}", globals.len()), FUNCTION, 0);
    for index in globals {
        add(
            &format!("{NAMES}{index}"),
            GLOBAL,
            usize::try_from(*index).ok()?,
        );
    }
    Some(made)
}

fn write_leb(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(parts: &str, body: &str) -> Option<Vec<u8>> {
        let text = format!(
            r#"(module (memory (export "memory") 1) {parts}
            (func $one) (func (export "run") (result i32) {body} (i32.const 0)))"#
        );
        added(&wat::parse_str(text).unwrap())
    }

    /// What is made of a binary, unless it is left as it is.
    fn added(wasm: &[u8]) -> Option<Vec<u8>> {
        match prepare(wasm).unwrap() {
            Cow::Owned(prepared) => Some(prepared),
            Cow::Borrowed(_) => None,
        }
    }

    fn exports(wasm: &[u8]) -> Vec<(String, ExternalKind, u32)> {
        let payloads = Parser::new(0).parse_all(wasm).map(Result::unwrap);
        let exports = payloads.filter_map(|payload| match payload {
            Payload::ExportSection(section) => Some(section),
            _ => None,
        });
        let exports = exports.flatten().map(Result::unwrap);
        exports
            .map(|it| (it.name.to_owned(), it.kind, it.index))
            .collect()
    }

    #[test]
    fn mutable_globals_are_exported_behind_what_a_module_exports() {
        let globals = "(global i32 (i32.const 1)) (global (mut v128) (v128.const i64x2 0 0)) (global (mut i64) (i64.const 7))";
        let wasm = prepared(globals, "").unwrap();
        let name = |name: &str| format!("{NAMES}{name}");
        assert_eq!(
            exports(&wasm),
            [
                ("memory".to_owned(), ExternalKind::Memory, 0),
                ("run".to_owned(), ExternalKind::Func, 1),
                (name("with 2"), ExternalKind::Func, 0),
                (name("1"), ExternalKind::Global, 1),
                (name("2"), ExternalKind::Global, 2),
            ]
        );
    }

    #[test]
    fn what_changes_more_than_memory_and_globals_is_left_as_it_is() {
        let table = r#"(table 2 funcref) (elem $some func $one) (elem declare func $one)
            (data $text "abc")"#;
        assert!(prepared(table, "").is_some());
        let reads = "(drop (table.get (i32.const 0))) (memory.init $text (i32.const 0) (i32.const 0) (i32.const 1))";
        assert!(prepared(table, reads).is_some());
        for body in [
            "(table.set (i32.const 0) (ref.func $one))",
            "(drop (table.grow (ref.null func) (i32.const 1)))",
            "(table.fill (i32.const 0) (ref.null func) (i32.const 1))",
            "(table.copy (i32.const 0) (i32.const 0) (i32.const 1))",
            "(table.init $some (i32.const 0) (i32.const 0) (i32.const 1))",
            "(elem.drop $some)",
            "(data.drop $text)",
        ] {
            assert!(prepared(table, body).is_none(), "{body}");
        }
        assert!(prepared("(start $one)", "").is_none());
        assert!(prepared("(global (mut funcref) (ref.null func))", "").is_none());
        assert!(prepared(&"(global (mut i32) (i32.const 0))".repeat(33), "").is_none());
        let hidden = r#"(module (memory 1) (func (export "run") (result i32) (i32.const 0)))"#;
        assert_eq!(added(&wat::parse_str(hidden).unwrap()), None);
        let large = r#"(module (memory (export "memory") 3) (func (export "run") (result i32) (i32.const 0)))"#;
        assert_eq!(added(&wat::parse_str(large).unwrap()), None);
        // There is no function that could have another name.
        let data = r#"(module (memory (export "memory") 1))"#;
        assert_eq!(added(&wat::parse_str(data).unwrap()), None);
    }

    #[test]
    fn instances_of_what_rust_makes_can_be_rewound() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../udfs/examples/built");
        let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let mut count = 0;
        for path in files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|it| it == "wasm"))
        {
            let wasm = std::fs::read(&path).unwrap();
            assert!(added(&wasm).is_some(), "{}", path.display());
            count += 1;
        }
        assert!(count > 0);
    }

    #[test]
    fn a_module_can_not_say_of_itself_that_its_instances_can_be_rewound() {
        let text = r#"(module (func (export "luge:rewind:with 0") (result i32) (i32.const 0)))"#;
        assert_eq!(
            prepare(&wat::parse_str(text).unwrap()),
            Err("it exports `luge:rewind:with 0`; names that begin with `luge:rewind:` are the server's own".to_owned())
        );
    }

    #[test]
    fn what_is_no_module_is_left_to_the_compiler() {
        let text = r#"(module (global (mut i32) (i32.const 0)) (func (export "run") (result i32) (i32.const 0)))"#;
        let wasm = wat::parse_str(text).unwrap();
        for cut in 0..wasm.len() {
            assert!(prepare(&wasm[..cut]).is_ok(), "{cut}");
        }
        assert_eq!(added(b"\0asm\x01\0\0\0\x07\xff\xff\xff\xff\x0f"), None);
    }
}
