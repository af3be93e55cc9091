//! What one transaction does, step by step, and what its answer tells of it.

use std::collections::HashMap;

use luge_benches::histories::{Read, Seen, Write};

/// A step of a batch or of a procedure.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Get(String),
    Set(String, u64),
    Delete(String),
    Incr(String),
    /// The keys that begin with this text, of which these may be there.
    Scan(String, Vec<String>),
    /// A condition: the key holds what the client saw before.
    Check(String, Seen, u64),
    Spin(u8),
    /// As `Spin`, for so long that the store folds meanwhile.
    Pause(u8),
    Attempt,
    Refuse,
    Trap,
}

/// What a step answers.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Nothing,
    Saw(Seen, Option<u64>),
    Deleted(bool),
    Number(u64),
    Entries(HashMap<String, (Seen, Option<u64>)>),
}

/// What a transaction's steps come to.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<Write>,
    pub(crate) contradictions: Vec<String>,
    own: HashMap<String, Seen>,
}

impl Record {
    /// What these steps did, if these are their answers.
    pub(crate) fn new(steps: &[Step], told: &[Told]) -> Self {
        let mut record = Self::default();
        for (step, told) in steps.iter().zip(told) {
            record.add(step, told);
        }
        record
    }

    /// What these steps would have written, had they not been undone.
    pub(crate) fn intended(steps: &[Step]) -> Self {
        let mut record = Self::default();
        for step in steps {
            if let Step::Set(..) = step {
                record.add(step, &Told::Nothing);
            }
        }
        record
    }

    fn add(&mut self, step: &Step, told: &Told) {
        match (step, told) {
            (Step::Set(key, value), _) => self.write(key, Seen::Value(*value)),
            (Step::Get(key), Told::Saw(seen, version)) => self.read(key, *seen, *version, false),
            (Step::Check(key, seen, version), _) => {
                self.read(key, *seen, (*version != 0).then_some(*version), false);
            }
            (Step::Delete(key), Told::Deleted(false)) => self.read(key, Seen::Absent, None, false),
            (Step::Delete(key), Told::Deleted(true)) => {
                if self.own.get(key) == Some(&Seen::Absent) {
                    let text = format!("deleted {key} twice, and it was there both times");
                    self.contradictions.push(text);
                }
                self.write(key, Seen::Absent);
            }
            (Step::Incr(key), Told::Number(number)) => {
                let before = match number.saturating_sub(1) {
                    0 => Seen::Absent,
                    before => Seen::Value(before),
                };
                self.read(key, before, None, false);
                self.write(key, Seen::Value(*number));
            }
            (Step::Scan(_, keys), Told::Entries(entries)) => {
                for key in keys {
                    let (seen, version) = entries.get(key).copied().unwrap_or((Seen::Absent, None));
                    self.read(key, seen, version, true);
                }
            }
            _ => {}
        }
    }

    fn write(&mut self, key: &str, stores: Seen) {
        self.own.insert(key.to_owned(), stores);
        let (key, expires) = (key.to_owned(), None);
        self.writes.push(Write {
            key,
            stores,
            expires,
        });
    }

    fn read(&mut self, key: &str, seen: Seen, version: Option<u64>, by_range: bool) {
        match self.own.get(key) {
            Some(own) if *own != seen => {
                let text = format!("it had made {key} {own}, and then saw {seen}");
                self.contradictions.push(text);
            }
            Some(_) => {}
            None => self.reads.push(Read {
                key: key.to_owned(),
                seen,
                version,
                by_range,
            }),
        }
    }
}

/// The steps as the guest reads them.
pub(crate) fn encode(steps: &[Step]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for step in steps {
        match step {
            Step::Get(key) => put(&mut bytes, b'g', key.as_bytes(), b""),
            Step::Set(key, value) => {
                put(
                    &mut bytes,
                    b's',
                    key.as_bytes(),
                    value.to_string().as_bytes(),
                );
            }
            Step::Delete(key) => put(&mut bytes, b'd', key.as_bytes(), b""),
            Step::Incr(key) => put(&mut bytes, b'i', key.as_bytes(), b""),
            Step::Scan(prefix, _) => {
                let end = format!("{prefix}~");
                put(&mut bytes, b'r', prefix.as_bytes(), end.as_bytes());
            }
            Step::Spin(turns) => put(&mut bytes, b'w', &vec![0; usize::from(*turns)], b""),
            Step::Pause(turns) => put(&mut bytes, b'p', &vec![0; usize::from(*turns)], b""),
            Step::Attempt => put(&mut bytes, b'a', b"", b""),
            Step::Refuse => put(&mut bytes, b'f', b"", b""),
            Step::Trap => put(&mut bytes, b'x', b"", b""),
            Step::Check(..) => {}
        }
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, letter: u8, first: &[u8], second: &[u8]) {
    bytes.push(letter);
    for text in [first, second] {
        bytes.push(u8::try_from(text.len()).expect("texts of fewer than 256 bytes"));
        bytes.extend_from_slice(text);
    }
}

/// What the guest told of each step; none where it is not of the guest's form.
pub(crate) fn decode(steps: &[Step], output: &[u8]) -> Option<Vec<Told>> {
    let mut rest = output;
    let told = steps.iter().map(|step| {
        Some(match step {
            Step::Get(_) => Told::Saw(seen(take(&mut rest)?)?, None),
            Step::Delete(_) => Told::Deleted(take(&mut rest)??.first() == Some(&1)),
            Step::Incr(_) => {
                let bytes: [u8; 8] = take(&mut rest)??.try_into().ok()?;
                Told::Number(u64::from_le_bytes(bytes))
            }
            Step::Scan(..) => Told::Entries(entries(take(&mut rest)??)?),
            Step::Attempt => Told::Number(number(take(&mut rest)??)?),
            _ => Told::Nothing,
        })
    });
    let told: Option<Vec<Told>> = told.collect();
    told.filter(|_| rest.is_empty())
}

/// A value as it is stored: a decimal number.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What a value, or the lack of one, shows; none where it is no number.
pub(crate) fn seen(value: Option<&[u8]>) -> Option<Seen> {
    match value {
        None => Some(Seen::Absent),
        Some(text) => number(text).map(Seen::Value),
    }
}

/// The next result: `Some(None)` for what is absent.
fn take<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let length = i32::from_le_bytes(*length);
    let Ok(length) = usize::try_from(length) else {
        *rest = behind;
        return Some(None);
    };
    let (result, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(Some(result))
}

fn entries(mut rest: &[u8]) -> Option<HashMap<String, (Seen, Option<u64>)>> {
    let mut entries = HashMap::new();
    while let Some((key_bytes, behind)) = rest.split_first_chunk::<4>() {
        let (value_bytes, behind) = behind.split_first_chunk::<4>()?;
        let key_bytes = u32::from_le_bytes(*key_bytes) as usize;
        let value_bytes = u32::from_le_bytes(*value_bytes) as usize;
        let (key, behind) = behind.split_at_checked(key_bytes)?;
        let (value, behind) = behind.split_at_checked(value_bytes)?;
        let key = String::from_utf8_lossy(key).into_owned();
        entries.insert(key, (seen(Some(value))?, None));
        rest = behind;
    }
    rest.is_empty().then_some(entries)
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Get(key) => write!(formatter, "get {key}"),
            Self::Set(key, value) => write!(formatter, "set {key} {value}"),
            Self::Delete(key) => write!(formatter, "del {key}"),
            Self::Incr(key) => write!(formatter, "incr {key}"),
            Self::Scan(prefix, _) => write!(formatter, "scan {prefix}"),
            Self::Check(key, seen, version) => {
                write!(formatter, "check that {key} is {seen} (version {version})")
            }
            Self::Spin(turns) => write!(formatter, "spin {turns}"),
            Self::Pause(turns) => write!(formatter, "pause {turns}"),
            Self::Attempt => formatter.write_str("attempt"),
            Self::Refuse => formatter.write_str("refuse"),
            Self::Trap => formatter.write_str("trap"),
        }
    }
}
