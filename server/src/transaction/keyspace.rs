//! Where keys lie in the store: a first byte tells users' keys from the server's own records.

use bytes::{Buf, Bytes};

use crate::store::{KeyRange, joined};

/// A part of the store's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyspace {
    /// Users' keys.
    Data,
    /// Registered modules, by name.
    Modules,
}

impl Keyspace {
    fn first_byte(self) -> u8 {
        match self {
            Self::Data => b'd',
            Self::Modules => b'm',
        }
    }

    /// The store's key of a key of this part.
    #[must_use]
    pub fn key(self, key: &[u8]) -> Bytes {
        joined(&[self.first_byte()], key)
    }

    /// Appends the store's key of a key of this part.
    pub fn write_key(self, key: &[u8], target: &mut Vec<u8>) {
        target.push(self.first_byte());
        target.extend_from_slice(key);
    }

    /// The store's range of `[start, end)`; an empty `end` reaches to the last key of this part.
    #[must_use]
    pub fn range(self, start: &[u8], end: &[u8]) -> KeyRange {
        let end = match end {
            [] => Bytes::copy_from_slice(&[self.first_byte() + 1]),
            end => self.key(end),
        };
        KeyRange {
            start: self.key(start),
            end,
        }
    }

    /// The key of this part that a key of the store stands for.
    #[must_use]
    pub fn strip(key: &Bytes) -> Bytes {
        Self::stripped(key.clone())
    }

    /// The same without another hold on the key's memory.
    #[must_use]
    pub fn stripped(mut key: Bytes) -> Bytes {
        key.advance(key.len().min(1));
        key
    }
}

/// The first key behind all keys that begin with `prefix`; empty where there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key_that_does_not_begin_so() {
        assert_eq!(prefix_end(b"user:"), b"user;");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), b"");
        assert_eq!(prefix_end(b""), b"");
    }

    #[test]
    fn user_ranges_cannot_leave_their_part() {
        let all = Keyspace::Data.range(b"", b"");
        assert!(all.contains(&Keyspace::Data.key(b"\xff\xff\xff")));
        assert!(!all.contains(&Keyspace::Modules.key(b"a")));
    }
}
