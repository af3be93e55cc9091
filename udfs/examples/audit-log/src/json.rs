//! Writes one JSON object.

use luge_udf::decimal;

/// As much of a value is written down.
const MAX_VALUE_BYTES: usize = 1000;

pub(crate) struct Object(String);

impl Object {
    pub(crate) const fn new() -> Self {
        Self(String::new())
    }

    pub(crate) fn number(&mut self, name: &str, number: i64) {
        self.name(name);
        self.0.push_str(&decimal::format(number));
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.quoted(text);
    }

    /// Text as a string; `{"text": …, "bytes": …}` where it was cut, `{"hex": …, "bytes": …}` where it is no text.
    pub(crate) fn bytes(&mut self, name: &str, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else {
            self.name(name);
            return self.0.push_str("null");
        };
        match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= MAX_VALUE_BYTES => self.text(name, text),
            Ok(text) => {
                let end = text.floor_char_boundary(MAX_VALUE_BYTES);
                self.part(
                    name,
                    "text",
                    text.get(..end).unwrap_or_default(),
                    bytes.len(),
                );
            }
            Err(_) => {
                let shown = bytes.get(..MAX_VALUE_BYTES).unwrap_or(bytes);
                self.part(name, "hex", &hexadecimal(shown), bytes.len());
            }
        }
    }

    fn part(&mut self, name: &str, form: &str, shown: &str, length: usize) {
        let mut part = Self::new();
        part.text(form, shown);
        part.number("bytes", i64::try_from(length).unwrap_or(i64::MAX));
        self.name(name);
        self.0.push_str(&part.finish());
    }

    pub(crate) fn finish(self) -> String {
        self.0 + "}"
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.quoted(name);
        self.0.push(':');
    }

    fn quoted(&mut self, text: &str) {
        self.0.push('"');
        for character in text.chars() {
            match character {
                '"' | '\\' => self.0.extend(['\\', character]),
                '\0'..' ' => {
                    self.0.push_str("\\u00");
                    self.0.push_str(&hexadecimal(&[character as u8]));
                }
                _ => self.0.push(character),
            }
        }
        self.0.push('"');
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}
