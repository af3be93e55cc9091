use std::fmt::{self, Display};

use serde::de::{Expected, Unexpected};

/// Why a value could not be written as MessagePack.
#[derive(Debug)]
pub struct EncodeError(Box<str>);

impl Display for EncodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for EncodeError {}

impl serde::ser::Error for EncodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string().into())
    }
}

/// Why bytes could not be read: one sentence, with the path to the field where there is one.
#[derive(Debug, PartialEq, Eq)]
pub struct DecodeError {
    // The fields from the innermost to the outermost, as the error met them on its way up.
    path: Vec<Box<str>>,
    message: Box<str>,
}

impl DecodeError {
    pub(super) fn new(message: &str) -> Self {
        Self {
            path: Vec::new(),
            message: message.into(),
        }
    }

    pub(super) fn within(mut self, field: Option<&str>) -> Self {
        self.path.extend(field.map(Box::from));
        self
    }

    /// The sentence, without any formatting machinery.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (index, field) in self.path.iter().rev().enumerate() {
            text.push_str(if index == 0 { "" } else { "." });
            text.push_str(field);
        }
        text.push_str(if self.path.is_empty() { "" } else { ": " });
        text.push_str(&self.message);
        text
    }
}

impl Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

impl std::error::Error for DecodeError {}

/// The defaults of serde print the value found, which links the printing of floats into every guest.
impl serde::de::Error for DecodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(&message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        mismatch(found, expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        mismatch(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        unknown("variant", variant, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        unknown("field", field, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(&["missing field `", field, "`"].concat())
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(&["field `", field, "` given twice"].concat())
    }
}

fn mismatch(found: Unexpected<'_>, expected: &dyn Expected) -> DecodeError {
    let found = match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "this integer",
        Unexpected::Float(_) => "a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) => "this text",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map",
        _ => "something else",
    };
    DecodeError::new(&["expected ", &expected.to_string(), ", found ", found].concat())
}

fn unknown(what: &str, name: &str, expected: &[&str]) -> DecodeError {
    let known = expected.join(", ");
    DecodeError::new(&["unknown ", what, " `", name, "`, expected one of ", &known].concat())
}
