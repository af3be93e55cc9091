//! What happened: operations with what they saw, what they wrote, and when.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;

/// A moment, in nanoseconds of a clock that never goes back.
pub type Moment = u64;

/// A value: a number that is written under its key once.
pub type Value = u64;

/// What a read saw under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// This value.
    Value(Value),
}

/// A read of one key that came before the operation's own writes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The key.
    pub key: String,
    /// What it held.
    pub seen: Seen,
    /// The version that the server told with it.
    pub version: Option<u64>,
    /// Whether it was read as a part of a range.
    pub by_range: bool,
}

/// A write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// What it stores: a value, or nothing for a deletion.
    pub stores: Seen,
    /// When the value may begin to be gone, and when it must be; none if it stays.
    pub expires: Option<(Moment, Moment)>,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It was refused, and has changed nothing.
    Refused,
    /// Nobody told. It may have been carried out, also later.
    Unknown,
}

/// One transaction as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was asked, in words.
    pub text: String,
    /// The connection that it was sent on.
    pub connection: usize,
    /// When it was sent.
    pub invoked: Moment,
    /// When its answer was there; meaningless where the outcome is unknown.
    pub completed: Moment,
    /// How it ended.
    pub outcome: Outcome,
    /// Where its writes stand among all commits, if the server told.
    pub sequence: Option<u64>,
    /// What it saw.
    pub reads: Vec<Read>,
    /// What it wrote, in order.
    pub writes: Vec<Write>,
    /// What it saw of its own writes and should not have, in words.
    pub contradictions: Vec<String>,
}

/// Operations of one run; those of a connection in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The operations.
    pub operations: Vec<Operation>,
}

impl Read {
    /// A read of the key alone.
    #[must_use]
    pub fn point(key: impl Into<String>, seen: Seen) -> Self {
        let (key, version) = (key.into(), None);
        Self {
            key,
            seen,
            version,
            by_range: false,
        }
    }

    /// A read of the key as a part of a range.
    #[must_use]
    pub fn range(key: impl Into<String>, seen: Seen) -> Self {
        Self {
            by_range: true,
            ..Self::point(key, seen)
        }
    }

    /// The same, with the version that was told.
    #[must_use]
    pub fn at(self, version: Option<u64>) -> Self {
        Self { version, ..self }
    }
}

impl Write {
    /// A write of a value that stays.
    #[must_use]
    pub fn value(key: impl Into<String>, value: Value) -> Self {
        let (key, stores) = (key.into(), Seen::Value(value));
        Self {
            key,
            stores,
            expires: None,
        }
    }

    /// A deletion.
    #[must_use]
    pub fn deletion(key: impl Into<String>) -> Self {
        Self {
            stores: Seen::Absent,
            ..Self::value(key, 0)
        }
    }
}

impl Operation {
    /// An operation that was carried out, and has neither read nor written yet.
    #[must_use]
    pub fn done(text: impl Into<String>, invoked: Moment, completed: Moment) -> Self {
        Self {
            text: text.into(),
            connection: 0,
            invoked,
            completed,
            outcome: Outcome::Done,
            sequence: None,
            reads: Vec::new(),
            writes: Vec::new(),
            contradictions: Vec::new(),
        }
    }

    /// Whether it may have taken place.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        self.outcome != Outcome::Refused
    }
}

impl History {
    /// Writes the history to a file, an operation a line.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        for (number, operation) in self.operations.iter().enumerate() {
            writeln!(file, "{number}: {operation}")?;
        }
        file.flush()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("nothing"),
            Self::Value(value) => write!(formatter, "{value}"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PER_MICROSECOND: u64 = 1_000;
        let (invoked, completed) = (
            self.invoked / PER_MICROSECOND,
            self.completed / PER_MICROSECOND,
        );
        let outcome = match self.outcome {
            Outcome::Done => "done",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
        };
        write!(
            formatter,
            "connection {}, {invoked}..{completed} us, {outcome}",
            self.connection
        )?;
        if let Some(sequence) = self.sequence {
            write!(formatter, ", sequence {sequence}")?;
        }
        write!(formatter, ": {}", self.text)?;
        let ranges = self.reads.iter().filter(|read| read.by_range);
        let absent = ranges.filter(|read| read.seen == Seen::Absent).count();
        for read in &self.reads {
            if !read.by_range || read.seen != Seen::Absent {
                write!(formatter, "; saw {} = {}", read.key, read.seen)?;
            }
        }
        if absent > 0 {
            write!(formatter, "; saw {absent} keys of ranges absent")?;
        }
        for write in &self.writes {
            write!(formatter, "; wrote {} = {}", write.key, write.stores)?;
        }
        Ok(())
    }
}
