//! Holds the built example modules, which are committed, to the ABI and to their sources' folder.
//!
//! `LUGE_BUILT_MODULES` names another folder, such as one that `udfs/build.sh` has just filled.
#![allow(clippy::unwrap_used, reason = "a test fails with a panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const MAX_MODULE_BYTES: usize = 100 * 1024;

/// The sections of a module that are looked at; the numbers are WebAssembly's.
const TYPES: u8 = 1;
const IMPORTS: u8 = 2;
const FUNCTIONS: u8 = 3;
const EXPORTS: u8 = 7;
const FUNCTION: u8 = 0;
const MEMORY: u8 = 2;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn built() -> PathBuf {
    std::env::var_os("LUGE_BUILT_MODULES").map_or_else(|| examples().join("built"), PathBuf::from)
}

/// The names of the crates that are modules.
fn sources() -> BTreeSet<String> {
    let entries = std::fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_module = |path: &PathBuf| {
        std::fs::read_to_string(path.join("Cargo.toml"))
            .is_ok_and(|manifest| manifest.contains("\"cdylib\""))
    };
    let name = |path: PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .replace('-', "_")
    };
    entries.filter(is_module).map(name).collect()
}

/// Reads numbers and names off the front of a section.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap();
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.number();
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    fn name(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    /// What a section of a list holds.
    fn list<T>(mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.number()).map(|_| item(&mut self)).collect()
    }
}

/// One section's contents; empty where there is none. Custom sections are told apart by their name.
fn section<'a>(module: &'a [u8], id: u8) -> Reader<'a> {
    let mut reader = Reader(module.strip_prefix(b"\0asm\x01\0\0\0").unwrap());
    while !reader.0.is_empty() {
        let found = reader.byte();
        let contents = reader.bytes();
        if found == id {
            return Reader(contents);
        }
    }
    Reader(&[0])
}

fn check(module: &[u8]) -> Result<BTreeSet<String>, String> {
    if module.len() > MAX_MODULE_BYTES {
        return Err(format!(
            "has {} bytes, the limit is {MAX_MODULE_BYTES}",
            module.len()
        ));
    }
    let types = section(module, TYPES).list(|reader| {
        assert_eq!(reader.byte(), 0x60);
        (reader.bytes().to_vec(), reader.bytes().to_vec())
    });
    let imports = section(module, IMPORTS).list(|reader| {
        let name = (reader.name(), reader.name());
        assert_eq!(reader.byte(), FUNCTION, "{name:?}");
        reader.number();
        name
    });
    if let Some((module, name)) = imports.iter().find(|(module, _)| module != "luge_v1") {
        return Err(format!("imports {module}.{name}"));
    }
    let functions = section(module, FUNCTIONS).list(Reader::number);
    let exports =
        section(module, EXPORTS).list(|reader| (reader.name(), reader.byte(), reader.number()));
    if !exports
        .iter()
        .any(|(name, kind, _)| name == "memory" && *kind == MEMORY)
    {
        return Err("exports no memory".to_owned());
    }
    let exports = exports.into_iter().filter(|(_, kind, _)| *kind == FUNCTION);
    exports
        .map(|(name, _, index)| {
            let kind = types
                .get(*functions.get(index - imports.len()).unwrap())
                .unwrap();
            let is_call = kind.0.is_empty() && kind.1 == [0x7f];
            if is_call {
                Ok(name)
            } else {
                Err(format!("{name} is not () -> i32"))
            }
        })
        .collect()
}

#[test]
fn every_example_is_built_and_fits_the_abi() {
    for name in sources() {
        let path = built().join(&name).with_extension("wasm");
        let module =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let exports = check(&module).unwrap_or_else(|problem| panic!("{name} {problem}"));
        assert!(
            exports.contains("metadata"),
            "{name} does not describe itself"
        );
        let functions = exports
            .iter()
            .filter(|export| !export.starts_with("metadata"));
        for function in functions {
            assert!(
                exports.contains(&format!("metadata_{function}")),
                "{name}.{function} is not described"
            );
        }
    }
}

#[test]
fn every_built_module_has_its_sources() {
    let names = std::fs::read_dir(built())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let names: BTreeSet<String> = names
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, sources());
}

#[test]
fn names_stay_in_for_back_traces() {
    for name in sources() {
        let module = std::fs::read(built().join(&name).with_extension("wasm")).unwrap();
        let mut reader = Reader(module.get(8..).unwrap());
        let mut customs = BTreeSet::new();
        while !reader.0.is_empty() {
            let id = reader.byte();
            let contents = reader.bytes();
            if id == 0 {
                customs.insert(Reader(contents).name());
            }
        }
        assert!(customs.contains("name"), "{name}");
    }
}
