//! Which keys functions may use.

use std::fmt;

/// Prefixes of keys, to read and to write.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Granted {
    read: Vec<Vec<u8>>,
    write: Vec<Vec<u8>>,
}

impl Granted {
    pub(super) fn new<P: AsRef<[u8]>>(read: &[P], write: &[P]) -> Self {
        let owned = |list: &[P]| list.iter().map(|it| it.as_ref().to_vec()).collect();
        Self {
            read: owned(read),
            write: owned(write),
        }
    }

    pub(super) fn may_read(&self, key: &[u8]) -> bool {
        self.read.iter().any(|prefix| key.starts_with(prefix))
    }

    pub(super) fn may_write(&self, key: &[u8]) -> bool {
        self.write.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Whether a range lies within one prefix; an empty end reaches to the last key.
    pub(super) fn may_scan(&self, start: &[u8], end: &[u8]) -> bool {
        self.read.iter().any(|prefix| {
            let last = behind(prefix);
            start.starts_with(prefix)
                && (last.is_empty() || (!end.is_empty() && end <= last.as_slice()))
        })
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |list: &[Vec<u8>]| {
            let shown: Vec<String> = list
                .iter()
                .map(|it| it.escape_ascii().to_string())
                .collect();
            shown.join(", ")
        };
        let (read, write) = (list(&self.read), list(&self.write));
        write!(formatter, "a grant to read [{read}] and to write [{write}]")
    }
}

/// The first key behind all that begin with the prefix; empty where there is none.
fn behind(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff);
    let mut end = prefix
        .get(..kept.map_or(0, |at| at + 1))
        .unwrap_or_default()
        .to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
