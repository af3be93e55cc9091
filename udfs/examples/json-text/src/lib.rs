//! Checks a text against RFC 8259 and finds the members of its outermost object, without building values.

use std::ops::Range;

/// Deeper texts are refused: each level takes some of the guest's stack.
pub const MAX_DEPTH: u32 = 128;

/// What is wrong with a text, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// The first byte that cannot be there; the text's length where it ends too early.
    pub offset: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Problem {
    /// The line and the column, in characters, both counted from 1.
    #[must_use]
    pub fn line_and_column(&self, text: &[u8]) -> (usize, usize) {
        let before = text.get(..self.offset).unwrap_or(text);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let last = before
            .rsplit(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let column = last.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
        (line, column)
    }
}

/// A member of the outermost object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, without escapes.
    pub name: String,
    /// Where its value stands, with the quotes of a string.
    pub value: Range<usize>,
}

/// Checks a text, and lists the members of the outermost object; none where it is something else.
///
/// # Errors
/// The first thing that is wrong with the text.
pub fn check(text: &[u8]) -> Result<Vec<Member>, Problem> {
    let text = std::str::from_utf8(text).map_err(|error| Problem {
        offset: error.valid_up_to(),
        reason: "this is not UTF-8",
    })?;
    let mut reader = Reader {
        text: text.as_bytes(),
        offset: 0,
        depth: 0,
        members: Vec::new(),
    };
    reader.blank();
    reader.value()?;
    reader.blank();
    match reader.peek() {
        None => Ok(reader.members),
        Some(_) => reader.problem("the value has ended before this"),
    }
}

struct Reader<'a> {
    text: &'a [u8],
    offset: usize,
    depth: u32,
    members: Vec<Member>,
}

type Checked = Result<(), Problem>;

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn problem<T>(&self, reason: &'static str) -> Result<T, Problem> {
        let reason = if self.offset < self.text.len() {
            reason
        } else {
            "the text ends too early"
        };
        Err(Problem {
            offset: self.offset,
            reason,
        })
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.offset += 1;
        }
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Checked {
        if self.peek() != Some(byte) {
            return self.problem(reason);
        }
        self.offset += 1;
        Ok(())
    }

    fn value(&mut self) -> Checked {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.problem("expected a value"),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Checked) -> Checked {
        if self.depth == MAX_DEPTH {
            return self.problem("this is nested too deeply");
        }
        self.depth += 1;
        self.offset += 1;
        self.blank();
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self) -> Checked {
        if self.peek() == Some(b'}') {
            self.offset += 1;
            return Ok(());
        }
        loop {
            let name = self.offset;
            if self.peek() != Some(b'"') {
                return self.problem("expected a name in double quotes");
            }
            self.string()?;
            let name = name..self.offset;
            self.blank();
            self.expect(b':', "expected a colon")?;
            self.blank();
            let start = self.offset;
            self.value()?;
            self.keep_member(name, start);
            if self.is_last(b'}', "expected a comma or the end of the object")? {
                return Ok(());
            }
        }
    }

    fn keep_member(&mut self, name: Range<usize>, start: usize) {
        if self.depth > 1 {
            return;
        }
        let name = unquoted(self.text.get(name).unwrap_or_default());
        self.members.push(Member {
            name,
            value: start..self.offset,
        });
    }

    fn array(&mut self) -> Checked {
        if self.peek() == Some(b']') {
            self.offset += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            if self.is_last(b']', "expected a comma or the end of the list")? {
                return Ok(());
            }
        }
    }

    /// After a part: the end, or a comma and another part.
    fn is_last(&mut self, end: u8, reason: &'static str) -> Result<bool, Problem> {
        self.blank();
        if self.peek() == Some(end) {
            self.offset += 1;
            return Ok(true);
        }
        self.expect(b',', reason)?;
        self.blank();
        Ok(false)
    }

    fn string(&mut self) -> Checked {
        self.offset += 1;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.offset += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..0x20) | None => return self.problem("a control character must be escaped"),
                Some(_) => self.offset += 1,
            }
        }
    }

    /// Passes over bytes of a string that stand for themselves, eight at a time: most of a text is made of them.
    fn plain(&mut self) {
        let rest = self.text.get(self.offset..).unwrap_or_default();
        for eight in rest.as_chunks::<8>().0 {
            let others = others(u64::from_le_bytes(*eight));
            if others != 0 {
                self.offset += others.trailing_zeros() as usize / 8;
                return;
            }
            self.offset += 8;
        }
    }

    fn escape(&mut self) -> Checked {
        self.offset += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.offset += 1,
            Some(b'u') => {
                self.offset += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.problem("expected four hexadecimal digits");
                    }
                    self.offset += 1;
                }
            }
            _ => return self.problem("there is no such escape"),
        }
        Ok(())
    }

    fn number(&mut self) -> Checked {
        if self.peek() == Some(b'-') {
            self.offset += 1;
        }
        if self.peek() == Some(b'0') {
            self.offset += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.offset += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.offset += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.offset += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Checked {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.problem("expected a digit");
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.offset += 1;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Checked {
        for byte in word {
            self.expect(*byte, "expected a value")?;
        }
        Ok(())
    }
}

/// Marks the highest bit of the bytes that do not stand for themselves in a string: quotes, backslashes and control
/// characters. Behind the first of them others may be marked, too.
const fn others(eight: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    const fn zeros(eight: u64) -> u64 {
        eight.wrapping_sub(ONES) & !eight
    }
    let control = eight.wrapping_sub(ONES * 0x20) & !eight;
    (control | zeros(eight ^ (ONES * b'"' as u64)) | zeros(eight ^ (ONES * b'\\' as u64))) & HIGH
}

/// The text that a string in quotes, already checked, stands for. Half a surrogate pair becomes a replacement
/// character.
#[must_use]
pub fn unquoted(string: &[u8]) -> String {
    let inner = string
        .get(1..string.len().saturating_sub(1))
        .unwrap_or_default();
    let inner = String::from_utf8_lossy(inner);
    if !inner.contains('\\') {
        return inner.into_owned();
    }
    let mut units = Vec::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        let character = if character == '\\' {
            escaped(&mut characters)
        } else {
            Ok(character)
        };
        match character {
            Ok(character) => units.extend_from_slice(character.encode_utf16(&mut [0; 2])),
            Err(unit) => units.push(unit),
        }
    }
    String::from_utf16_lossy(&units)
}

/// A character, or a UTF-16 unit, which may be half of one.
fn escaped(characters: &mut std::str::Chars<'_>) -> Result<char, u16> {
    match characters.next() {
        Some('b') => Ok('\u{8}'),
        Some('f') => Ok('\u{c}'),
        Some('n') => Ok('\n'),
        Some('r') => Ok('\r'),
        Some('t') => Ok('\t'),
        Some('u') => {
            let digits = characters
                .by_ref()
                .take(4)
                .filter_map(|digit| digit.to_digit(16));
            let unit = digits.fold(0, |unit, digit| unit << 4 | digit);
            Err(u16::try_from(unit).unwrap_or_default())
        }
        other => Ok(other.unwrap_or('\\')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind a byte that is below another by one, subtraction borrows from the next.
    #[test]
    fn a_string_ends_at_the_same_byte_wherever_it_stands() {
        for before in 0..24 {
            for inner in ["", "é", "\u{1f6f7}", "!", "[", "\u{7f}"] {
                let start = "x".repeat(before) + inner;
                let whole = format!("\"{start}\"");
                assert!(check(whole.as_bytes()).is_ok(), "{whole}");
                for (wrong, reason) in [
                    ("\u{1f}", "a control character must be escaped"),
                    ("\0", "a control character must be escaped"),
                    ("\\x", "there is no such escape"),
                    ("\"x", "the value has ended before this"),
                ] {
                    let text = format!("\"{start}{wrong}{}\"", "y".repeat(12));
                    let problem = check(text.as_bytes()).unwrap_err();
                    assert_eq!(problem.reason, reason, "{text:?}");
                    let offset = start.len() + 1 + usize::from(wrong.len() > 1);
                    assert_eq!(problem.offset, offset, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn json_is_accepted() {
        let texts = [
            "null",
            " true ",
            "-0.5e+10",
            "0",
            "\"\\u00e9 \\\"\"",
            "[]",
            "[1, [2], {}]",
            "{\"a\":{\"b\":[]}}",
            "\"\u{7f}é\"",
        ];
        for text in texts {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn problems_are_found_where_they_are() {
        let cases = [
            ("", 0, "the text ends too early"),
            ("{\"a\":1,}", 7, "expected a name in double quotes"),
            ("[1,]", 3, "expected a value"),
            ("[1 2]", 3, "expected a comma or the end of the list"),
            ("{\"a\" 1}", 5, "expected a colon"),
            ("01", 1, "the value has ended before this"),
            ("1.", 2, "the text ends too early"),
            ("nul!", 3, "expected a value"),
            ("\"a\nb\"", 2, "a control character must be escaped"),
            ("\"\\x\"", 2, "there is no such escape"),
            ("\"\\u12g4\"", 5, "expected four hexadecimal digits"),
            ("{'a':1}", 1, "expected a name in double quotes"),
        ];
        for (text, offset, reason) in cases {
            assert_eq!(
                check(text.as_bytes()),
                Err(Problem { offset, reason }),
                "{text}"
            );
        }
        assert_eq!(check(b"\"\xff\"").map_err(|problem| problem.offset), Err(1));
    }

    #[test]
    fn what_json_refuses_here_it_refuses_everywhere() {
        let seeds = [
            "{\"a\":[1,-2.5e3,\"x\\n\\u00e9\"],\"b\":{\"c\":null,\"d\":true}}",
            "[[],{},\"\",0.1]",
        ];
        for seed in seeds {
            for (index, _) in seed.char_indices() {
                for byte in b"{}[]:,\"\\0e.-+ntf u\x01" {
                    let mut text = seed.as_bytes().to_vec();
                    text[index] = *byte;
                    let expected = serde_json::from_slice::<serde_json::Value>(&text).is_ok();
                    assert_eq!(
                        check(&text).is_ok(),
                        expected,
                        "{}",
                        String::from_utf8_lossy(&text)
                    );
                }
            }
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(check(nested(128).as_bytes()).is_ok());
        assert_eq!(
            check(nested(129).as_bytes()).map_err(|problem| problem.reason),
            Err("this is nested too deeply")
        );
    }

    #[test]
    fn members_are_those_of_the_outermost_object() {
        let text = br#"{ "a": {"b": 1}, "\u0062\ud83d\ude00": "x" }"#;
        let members = check(text).unwrap();
        let found: Vec<(&str, &[u8])> = members
            .iter()
            .map(|member| (member.name.as_str(), &text[member.value.clone()]))
            .collect();
        assert_eq!(found, [("a", &b"{\"b\": 1}"[..]), ("b😀", &b"\"x\""[..])]);
        assert_eq!(check(b"[{\"a\":1}]").unwrap(), []);
    }

    #[test]
    fn places_are_told_as_line_and_column() {
        let text = "{\n \"é\": x}".as_bytes();
        let problem = check(text).unwrap_err();
        assert_eq!(problem.line_and_column(text), (2, 7));
    }
}
