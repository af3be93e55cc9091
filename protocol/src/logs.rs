//! What functions logged: the events of `logs`.

use serde::{Deserialize, Serialize};

use crate::list::list;

/// What a line takes in an event beside its texts, at the most: names, heads and numbers.
const LINE_OVERHEAD_BYTES: usize = 96;

/// What an event takes beside its lines, the response around it included, at the most.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// How serious a line is. On the wire it is the number that functions give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For who looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// What may be wrong.
    Warn,
    /// What is wrong.
    Error,
}

impl LogLevel {
    /// Every level, by its number.
    pub const ALL: [Self; 5] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The level of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl TryFrom<u8> for LogLevel {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        let found = Self::ALL.get(usize::from(number)).copied();
        found.ok_or_else(|| format!("{number} is no level; they are 0 (trace) to 4 (error)"))
    }
}

impl From<LogLevel> for u8 {
    fn from(level: LogLevel) -> Self {
        level as Self
    }
}

/// One event of `logs`, a map: lines in the order in which they were logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEvent {
    /// The lines.
    #[serde(deserialize_with = "list")]
    pub lines: Vec<LogLine>,
    /// How many lines before these were lost to this reader, whatever modules they were of; left out
    /// where none were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
}

/// A line that a function logged, a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When: milliseconds since 1970.
    pub time_ms: u64,
    /// How serious it is.
    pub level: LogLevel,
    /// The call's id; 0 for a describer's, which no request calls.
    pub call: u64,
    /// The module.
    pub module: String,
    /// The function.
    pub function: String,
    /// The text, with control characters escaped.
    pub message: String,
}

impl LogEvent {
    /// What it takes as a response, in bytes, at the most.
    #[must_use]
    pub fn max_encoded_bytes(&self) -> usize {
        let lines = self.lines.iter().map(LogLine::max_encoded_bytes);
        EVENT_OVERHEAD_BYTES + lines.sum::<usize>()
    }
}

impl LogLine {
    fn max_encoded_bytes(&self) -> usize {
        LINE_OVERHEAD_BYTES + self.module.len() + self.function.len() + self.message.len()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reply, Response};

    #[test]
    fn no_event_takes_more_than_it_says() {
        for (size, count) in [
            (0, 0),
            (1, 15),
            (31, 16),
            (32, 300),
            (65_535, 3),
            (65_536, 3),
        ] {
            let line = LogLine {
                time_ms: u64::MAX,
                level: LogLevel::Error,
                call: u64::MAX,
                module: "m".repeat(size),
                function: "f".repeat(size),
                message: "x".repeat(size),
            };
            let event = LogEvent {
                lines: vec![line; count],
                skipped: u64::MAX,
            };
            let limit = event.max_encoded_bytes();
            let mut body = Vec::new();
            let response = Response {
                id: u64::MAX,
                outcome: Ok(Reply::Lines(event)),
            };
            response.encode(&mut body).unwrap();
            assert!(body.len() <= limit, "{} > {limit}", body.len());
        }
    }

    #[test]
    fn levels_have_the_numbers_that_functions_give() {
        for (number, level) in (0_u8..).zip(LogLevel::ALL) {
            assert_eq!(LogLevel::try_from(number), Ok(level));
            assert_eq!(u8::from(level), number);
            assert_eq!(LogLevel::from_name(level.name()), Some(level));
        }
        assert!(LogLevel::try_from(5).is_err());
    }
}
