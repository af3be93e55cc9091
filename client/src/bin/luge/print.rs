//! What goes to standard output: text for people, bytes for pipes, or one JSON document.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};

use serde_json::Value;

use crate::json;

/// Writes what commands answer, in the form that was asked for.
pub(crate) struct Printer {
    /// Whether one JSON document is wanted.
    pub(crate) json: bool,
    terminal: bool,
    output: Box<dyn Write>,
}

impl Printer {
    pub(crate) fn to_stdout(json: bool) -> Self {
        let stdout = io::stdout();
        Self {
            json,
            terminal: stdout.is_terminal(),
            output: Box::new(BufWriter::new(stdout)),
        }
    }

    /// The document with `--json`, else the line.
    pub(crate) fn answer(&mut self, document: &Value, line: &str) -> io::Result<()> {
        match self.json {
            true => self.document(document),
            false => writeln!(self.output, "{line}"),
        }
    }

    /// A JSON document on one line.
    pub(crate) fn document(&mut self, document: &Value) -> io::Result<()> {
        writeln!(self.output, "{document}")
    }

    /// A line that is printed without `--json` only.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        match self.json {
            true => Ok(()),
            false => writeln!(self.output, "{line}"),
        }
    }

    /// A value by itself: JSON, or escaped on a terminal, or as it is.
    pub(crate) fn value(&mut self, value: &[u8]) -> io::Result<()> {
        if self.json {
            return self.document(&json::from_bytes(value));
        }
        if self.terminal {
            return writeln!(self.output, "{}", escape_for_terminal(value));
        }
        self.output.write_all(value)?;
        match is_text(value) {
            true => self.output.write_all(b"\n"),
            false => Ok(()),
        }
    }

    /// Writes what is still held back.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// UTF-8 without control characters other than those of plain text.
fn is_text(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| {
        !text
            .chars()
            .any(|character| character.is_control() && !matches!(character, '\t' | '\n' | '\r'))
    })
}

/// The text, with what a terminal would act upon, and what is not UTF-8, as `\x..`.
pub(crate) fn escape_for_terminal(bytes: &[u8]) -> String {
    escape(bytes, |character| matches!(character, '\t' | '\n' | '\\'))
}

/// The text on one line and in one column: with tabs, newlines and backslashes escaped, too.
pub(crate) fn escape_for_line(bytes: &[u8]) -> String {
    escape(bytes, |_| false)
}

fn escape(bytes: &[u8], keep: fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_escaped(&mut shown, character, keep);
        }
        for byte in chunk.invalid() {
            push_byte(&mut shown, *byte);
        }
    }
    shown
}

fn push_escaped(shown: &mut String, character: char, keep: fn(char) -> bool) {
    match character {
        kept if keep(kept) => shown.push(kept),
        '\t' => shown.push_str("\\t"),
        '\n' => shown.push_str("\\n"),
        '\\' => shown.push_str("\\\\"),
        control if control.is_control() => {
            let mut buffer = [0; 4];
            for byte in control.encode_utf8(&mut buffer).bytes() {
                push_byte(shown, byte);
            }
        }
        other => shown.push(other),
    }
}

fn push_byte(shown: &mut String, byte: u8) {
    write!(shown, "\\x{byte:02x}").expect("a String takes the text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is() {
        let text = "Grüße, 世界 🛷";
        assert_eq!(escape_for_line(text.as_bytes()), text);
        assert_eq!(escape_for_terminal(text.as_bytes()), text);
    }

    #[test]
    fn a_line_has_no_tab_newline_or_bare_backslash() {
        assert_eq!(escape_for_line(b"a\tb\nc\\d\r"), r"a\tb\nc\\d\x0d");
    }

    #[test]
    fn a_terminal_gets_tabs_and_newlines_and_nothing_to_act_upon() {
        assert_eq!(escape_for_terminal(b"a\tb\nc\\"), "a\tb\nc\\");
        assert_eq!(escape_for_terminal(b"\x1b[2J\x07"), r"\x1b[2J\x07");
        assert_eq!(escape_for_terminal("\u{9b}31m".as_bytes()), r"\xc2\x9b31m");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_shown_one_by_one() {
        assert_eq!(escape_for_line(b"ok\xff\xc3"), r"ok\xff\xc3");
    }

    #[test]
    fn a_value_in_a_pipe_ends_with_a_newline_only_if_it_is_text() {
        assert!(is_text("Grüße\n".as_bytes()));
        assert!(is_text(b""));
        assert!(!is_text(b"\x00\x01"));
        assert!(!is_text(b"\xff"));
    }
}
