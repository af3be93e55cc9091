//! Just enough JSON for a describer's line.

use std::fmt::Write as _;

/// A JSON object that is written field by field.
pub(crate) struct Line(String);

impl Line {
    pub(crate) const fn new() -> Self {
        Self(String::new())
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        let value = quoted(value);
        self.raw(name, &value)
    }

    pub(crate) fn raw(mut self, name: &str, value: &str) -> Self {
        self.0.push_str(if self.0.is_empty() { "{" } else { "," });
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    /// Leaves the field out where it would say nothing.
    pub(crate) fn text_if_any(self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.text(name, value)
        }
    }

    pub(crate) fn object(self) -> String {
        self.0 + "}"
    }

    pub(crate) fn line(self) -> String {
        self.object() + "\n"
    }
}

pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..' ' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}
