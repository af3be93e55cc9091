//! Where a guest's instructions come from: files and lines, as far as its module carries DWARF.
//!
//! Wasmtime could tell, too, and would follow every reference that the module's DWARF makes, in the
//! middle of a request: lists that are referred to again and again take minutes. Here only the *line
//! programs* are read, one behind the other, each byte once. That happens when a call of the module first
//! fails, on a thread where others do not wait, and never more than once.
//!
//! ```text
//!   .debug_line       header with file names, instructions │ header, instructions │ …
//!                     each instruction takes a byte or more, and makes a row at the most
//!   .debug_line_str   names that headers refer to; those in .debug_str are read where it is not there
//!   addresses         count from the beginning of the code section's content
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gimli::{AttributeValue, DebugLine, DebugLineOffset, LineProgramHeader, LittleEndian};
use tokio::sync::OnceCell;

use super::module::shortened;

/// The longest line programs that are read, in bytes, and the most names: what a guest of some
/// thousand functions has several times over. With more, back-traces have no lines.
const MAX_SECTION_BYTES: usize = 1 << 20;

/// The longest header of a line program, in bytes: it takes thirty times as much memory while its
/// program is read.
const MAX_HEADER_BYTES: u64 = 64 << 10;

/// Files of a module whose names are kept.
const MAX_FILES: usize = 4_096;

/// The longest name of a file or folder that is kept, in bytes; of a longer one the beginning.
const MAX_NAME_BYTES: usize = 256;

const ADDRESS_BYTES: u8 = 4;

/// Four lengths.
const KEPT_HEAD_BYTES: usize = 16;

type Slice<'a> = gimli::EndianSlice<'a, LittleEndian>;
type Header<'a> = LineProgramHeader<Slice<'a>>;

/// The lines of a module, which are read when they are first asked for.
#[derive(Debug)]
pub(super) struct Lines {
    /// Gone once they are read.
    sections: Mutex<Option<Arc<Sections>>>,
    table: OnceCell<Arc<Table>>,
}

/// What a module carries.
#[derive(Debug, Default)]
struct Sections {
    programs: Vec<u8>,
    names: Vec<u8>,
    other_names: Vec<u8>,
    /// Where the content of the code section lies in the module.
    code: usize,
}

/// Which line each instruction comes from.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// By address.
    rows: Vec<Row>,
    files: Vec<String>,
    /// Where addresses begin in the module.
    code: usize,
}

/// From this address on, up to the next row.
#[derive(Clone, Copy, Debug)]
struct Row {
    address: u32,
    file: u32,
    /// 0 where there is none.
    line: u32,
}

impl Lines {
    /// The lines of a module that wasmtime takes; none if it carries none, or too many.
    pub(super) fn of(wasm: &[u8]) -> Option<Self> {
        Sections::find(wasm).map(Self::from)
    }

    /// What is kept of a module beside its compiled code, in front of it: four lengths, and the sections.
    pub(super) fn keep(wasm: &[u8]) -> Vec<u8> {
        let sections = Sections::find(wasm).unwrap_or_default();
        let parts = [&sections.programs, &sections.names, &sections.other_names];
        let lengths = parts.map(Vec::len).into_iter().chain([sections.code]);
        let mut kept: Vec<u8> = lengths
            .flat_map(|length| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes())
            .collect();
        kept.extend(parts.into_iter().flatten());
        kept
    }

    /// What was kept, and where in the same bytes the compiled code begins.
    pub(super) fn restore(bytes: &[u8]) -> Option<(Option<Self>, usize)> {
        let (lengths, mut rest) = bytes.split_first_chunk::<KEPT_HEAD_BYTES>()?;
        let mut lengths = lengths.chunks_exact(4).map(|length| {
            let length = length.try_into().map(u32::from_le_bytes);
            length.ok().and_then(|length| usize::try_from(length).ok())
        });
        let mut part = |length: Option<usize>| {
            let (part, behind) = rest.split_at_checked(length?)?;
            rest = behind;
            Some(part.to_vec())
        };
        let sections = Sections {
            programs: part(lengths.next()?)?,
            names: part(lengths.next()?)?,
            other_names: part(lengths.next()?)?,
            code: lengths.next()??,
        };
        let code_begins = bytes.len() - rest.len();
        let is_there = !sections.programs.is_empty();
        Some((is_there.then(|| Self::from(sections)), code_begins))
    }

    /// The table of all lines. What can't be read is left out.
    pub(super) async fn table(&self) -> Arc<Table> {
        let read = || async {
            let sections = self.sections().clone().unwrap_or_default();
            let read = tokio::task::spawn_blocking(move || Table::read(&sections));
            Arc::new(read.await.unwrap_or_default())
        };
        let table = Arc::clone(self.table.get_or_init(read).await);
        self.sections().take();
        table
    }

    fn sections(&self) -> MutexGuard<'_, Option<Arc<Sections>>> {
        self.sections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Sections> for Lines {
    fn from(sections: Sections) -> Self {
        Self {
            sections: Mutex::new(Some(Arc::new(sections))),
            table: OnceCell::new(),
        }
    }
}

impl Sections {
    fn find(wasm: &[u8]) -> Option<Self> {
        const CUSTOM: u8 = 0;
        const CODE: u8 = 10;
        let mut found = Self::default();
        let mut rest = wasm.get(8..)?;
        while let Some((id, tail)) = rest.split_first() {
            let (length, tail) = read_leb(tail)?;
            let (content, tail) = tail.split_at_checked(length)?;
            if *id == CODE {
                found.code = wasm.len() - tail.len() - length;
            }
            if *id == CUSTOM {
                let (length, content) = read_leb(content)?;
                let (name, content) = content.split_at_checked(length)?;
                match name {
                    b".debug_line" => found.programs = bounded(content),
                    b".debug_line_str" => found.names = bounded(content),
                    b".debug_str" => found.other_names = bounded(content),
                    _ => {}
                }
            }
            rest = tail;
        }
        if !found.names.is_empty() {
            found.other_names = Vec::new();
        }
        (!found.programs.is_empty() && found.code > 0).then_some(found)
    }
}

impl Sections {
    /// The text that a header has, or refers to.
    fn text(&self, value: &AttributeValue<Slice<'_>>) -> String {
        let bytes = match value {
            AttributeValue::String(text) => Some(text.slice()),
            AttributeValue::DebugLineStrRef(at) => self.names.get(at.0..),
            AttributeValue::DebugStrRef(at) => self.other_names.get(at.0..),
            _ => None,
        };
        let bytes = bytes.unwrap_or_default();
        let bytes = bytes.get(..MAX_NAME_BYTES).unwrap_or(bytes);
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

fn bounded(content: &[u8]) -> Vec<u8> {
    match content.len() <= MAX_SECTION_BYTES {
        true => content.to_vec(),
        false => Vec::new(),
    }
}

/// An unsigned number of up to 32 bits, and what follows it.
pub(super) fn read_leb(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(number).ok()?, bytes.get(at + 1..)?));
        }
    }
    None
}

impl Table {
    /// `file:line` of the instruction at this offset of the module.
    pub(super) fn find(&self, offset: usize) -> Option<String> {
        let address = u32::try_from(offset.checked_sub(self.code)?).ok()?;
        let behind = self.rows.partition_point(|row| row.address <= address);
        let row = self.rows.get(behind.checked_sub(1)?)?;
        let file = self.files.get(usize::try_from(row.file).ok()?)?;
        (row.line > 0).then(|| format!("{file}:{}", row.line))
    }

    fn read(sections: &Sections) -> Self {
        let mut table = Self {
            code: sections.code,
            ..Self::default()
        };
        let mut at = 0;
        while let Some(program) = Place::read(&sections.programs, at) {
            if program.header_bytes <= MAX_HEADER_BYTES {
                // One that is wrong is passed over, since the place of the next is known.
                let _ = table.read_program(sections, at);
            }
            at = program.end;
        }
        table.rows.sort_by_key(|row| row.address);
        table
    }

    fn read_program(&mut self, sections: &Sections, at: usize) -> gimli::Result<()> {
        let programs = DebugLine::new(&sections.programs, LittleEndian);
        let program = programs.program(DebugLineOffset(at), ADDRESS_BYTES, None, None)?;
        let mut files = HashMap::new();
        let mut rows = program.rows();
        // Where the linker has left a function out, its rows begin at 0, where no code is.
        let mut sequence: Vec<Row> = Vec::new();
        while let Some((header, row)) = rows.next_row()? {
            let is_end = row.end_sequence();
            let file = row.file_index();
            let file = *files
                .entry(file)
                .or_insert_with(|| self.file(sections, header, file));
            let line = row.line().filter(|_| !is_end);
            sequence.push(Row {
                address: u32::try_from(row.address()).unwrap_or(u32::MAX),
                file,
                line: line.map_or(0, |line| u32::try_from(line.get()).unwrap_or(0)),
            });
            if is_end {
                if sequence.first().is_some_and(|first| first.address > 0) {
                    self.rows.append(&mut sequence);
                }
                sequence.clear();
            }
        }
        Ok(())
    }

    /// The number of a file's name, which is kept; beyond all of them if it has none.
    fn file(&mut self, sections: &Sections, header: &Header<'_>, index: u64) -> u32 {
        let named = header.file(index).filter(|_| self.files.len() < MAX_FILES);
        let Some(file) = named else {
            return u32::MAX;
        };
        let name = sections.text(&file.path_name());
        if name.is_empty() {
            return u32::MAX;
        }
        let folder = file.directory(header).map(|folder| sections.text(&folder));
        let path = match folder.as_deref() {
            None | Some("" | ".") => name,
            Some(_) if name.starts_with('/') => name,
            Some(folder) => format!("{folder}/{name}"),
        };
        self.files.push(shortened(&path));
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }
}

/// Where a line program lies.
struct Place {
    /// Where the next one begins.
    end: usize,
    header_bytes: u64,
}

impl Place {
    /// That at an offset; none at the end, and behind what can't be a program.
    fn read(programs: &[u8], at: usize) -> Option<Self> {
        let rest = programs.get(at..)?;
        let length = usize::try_from(read_u32(rest, 0)?).ok()?;
        let end = at.checked_add(4)?.checked_add(length)?;
        if end > programs.len() {
            return None;
        }
        let version = u16::from_le_bytes([*rest.get(4)?, *rest.get(5)?]);
        // Version 5 has the sizes of addresses and of segments in front.
        let place = if version >= 5 { 8 } else { 6 };
        Some(Self {
            end,
            header_bytes: u64::from(read_u32(rest, place)?),
        })
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "(module
        (func (export \"a\") (result i32)
            (i32.const 1))
        (func (export \"b\") (result i32)
            (unreachable)))";

    fn module(name: &str) -> Vec<u8> {
        wat::Parser::new()
            .generate_dwarf(wat::GenerateDwarf::Lines)
            .parse_str(Some(std::path::Path::new(name)), TEXT)
            .unwrap()
    }

    fn table(wasm: &[u8]) -> Table {
        Table::read(&Sections::find(wasm).unwrap_or_default())
    }

    /// A server that had been started again told functions without their lines.
    #[test]
    fn what_is_kept_beside_the_code_comes_back_whole_and_cut_off_it_does_not() {
        let wasm = module("dir/guest.wat");
        let mut kept = Lines::keep(&wasm);
        let length = kept.len();
        kept.extend(b"code");
        let (lines, begins) = Lines::restore(&kept).unwrap();
        assert_eq!(&kept[begins..], b"code");
        let sections = lines.unwrap().sections().clone().unwrap();
        let expected = Sections::find(&wasm).unwrap();
        assert_eq!(sections.programs, expected.programs);
        assert_eq!(sections.names, expected.names);
        assert_eq!(sections.code, expected.code);
        for cut in 0..length {
            assert!(Lines::restore(&kept[..cut]).is_none(), "{cut}");
        }
        let without = Lines::keep(b"\0asm\x01\0\0\0");
        let (lines, begins) = Lines::restore(&without).unwrap();
        assert!(lines.is_none() && begins == without.len());
    }

    #[test]
    fn an_instruction_has_its_file_and_line() {
        const I32_CONST: u8 = 0x41;
        let wasm = module("dir/guest.wat");
        let table = table(&wasm);
        let code = Sections::find(&wasm).unwrap().code;
        let at = wasm[code..].iter().position(|byte| *byte == I32_CONST);
        let at = code + at.unwrap();
        assert_eq!(table.find(at).as_deref(), Some("dir/guest.wat:3"));
        // The end of the function, and the other function: its body's length, its locals, and its code.
        assert_eq!(table.find(at + 5).as_deref(), Some("dir/guest.wat:5"));
        assert_eq!(table.find(0), None);
        assert_eq!(table.find(code), None);
        assert_eq!(table.find(usize::MAX), None);
    }

    #[test]
    fn a_module_without_lines_or_with_too_many_has_none() {
        assert!(Lines::of(&wat::parse_str(TEXT).unwrap()).is_none());
        let mut wasm = wat::parse_str(TEXT).unwrap();
        let name = b".debug_line";
        let length = 1 + name.len() + MAX_SECTION_BYTES + 1;
        wasm.push(0);
        wasm.extend((0..5).map(|at| {
            let bits = u8::try_from(length >> (7 * at) & 0x7f).unwrap();
            if at < 4 { bits | 0x80 } else { bits }
        }));
        wasm.push(u8::try_from(name.len()).unwrap());
        wasm.extend(name);
        wasm.extend(std::iter::repeat_n(0, MAX_SECTION_BYTES + 1));
        assert!(Sections::find(&wasm).is_none());
    }

    /// Every byte of the debug sections wrong in turn, in several ways: it may be wrong, and not more.
    #[test]
    fn damaged_lines_are_read_without_harm() {
        let wasm = module("guest.wat");
        let sections = Sections::find(&wasm).unwrap();
        for at in 0..sections.programs.len() {
            for change in [0xff, 0x80, 0x01] {
                let mut programs = sections.programs.clone();
                programs[at] ^= change;
                let damaged = Sections {
                    programs,
                    names: sections.names.clone(),
                    other_names: sections.other_names.clone(),
                    code: sections.code,
                };
                let table = Table::read(&damaged);
                assert!(table.rows.len() <= damaged.programs.len());
                let _ = table.find(damaged.code + 5);
            }
            let cut = Sections {
                programs: sections.programs[..at].to_vec(),
                names: Vec::new(),
                other_names: Vec::new(),
                code: sections.code,
            };
            let _ = Table::read(&cut);
        }
    }

    /// As many rows as fit, in one program: the work is in proportion to the bytes.
    #[test]
    fn the_longest_line_program_is_read_in_proportion_to_its_bytes() {
        let wasm = module("guest.wat");
        let mut sections = Sections::find(&wasm).unwrap();
        // A special opcode makes a row by itself.
        let mut programs = sections.programs.clone();
        programs.resize(MAX_SECTION_BYTES, 0xf0);
        let length = u32::try_from(programs.len() - 4).unwrap();
        programs[..4].copy_from_slice(&length.to_le_bytes());
        sections.programs = programs;
        assert!(Table::read(&sections).rows.len() <= MAX_SECTION_BYTES);
    }
}
