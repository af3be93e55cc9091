//! Commits as a block's payload holds them.
//!
//! ```text
//!   commit:  writes u32 | write ...
//!   write:   kind u8 | key length u16 | value length u32 | expires_ms u64 | key | value
//!            0 put, 1 delete, 2 expire; the latter two have no value and expiry 0
//! ```

use super::super::fields::Fields;
use super::BlockHead;
use crate::store::{Millis, Sequence};

/// What a commit does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Stores a value.
    Put {
        /// The value.
        value: &'a [u8],
        /// When it ceases to be; 0 for never.
        expires_ms: Millis,
    },
    /// Removes the key because a transaction asked for it.
    Delete,
    /// Removes the key because its time had come.
    Expire,
}

/// A commit that no block can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log takes keys below 64 KiB, values below 4 GiB and less than 2^32 writes in a commit"
)]
pub struct TooLarge;

/// A payload that does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload's byte {offset} {why}")]
pub struct BadPayload {
    /// Where.
    pub offset: usize,
    /// What is wrong there.
    pub why: &'static str,
}

/// Appends a commit to a payload.
///
/// # Errors
/// It has more writes, or longer ones, than the format can tell. The buffer is as before.
pub fn encode_commit<'a>(
    buffer: &mut Vec<u8>,
    writes: impl ExactSizeIterator<Item = (&'a [u8], Change<'a>)>,
) -> Result<(), TooLarge> {
    let start = buffer.len();
    let encoded = encode_writes(buffer, writes);
    if encoded.is_err() {
        buffer.truncate(start);
    }
    encoded
}

fn encode_writes<'a>(
    buffer: &mut Vec<u8>,
    writes: impl ExactSizeIterator<Item = (&'a [u8], Change<'a>)>,
) -> Result<(), TooLarge> {
    let count = u32::try_from(writes.len()).map_err(|_| TooLarge)?;
    buffer.extend_from_slice(&count.to_le_bytes());
    for (key, change) in writes {
        let (kind, value, expires_ms) = match change {
            Change::Put { value, expires_ms } => (0, value, expires_ms),
            Change::Delete => (1, &[][..], 0),
            Change::Expire => (2, &[][..], 0),
        };
        let key_length = u16::try_from(key.len()).map_err(|_| TooLarge)?;
        let value_length = u32::try_from(value.len()).map_err(|_| TooLarge)?;
        buffer.push(kind);
        buffer.extend_from_slice(&key_length.to_le_bytes());
        buffer.extend_from_slice(&value_length.to_le_bytes());
        buffer.extend_from_slice(&expires_ms.to_le_bytes());
        buffer.extend_from_slice(key);
        buffer.extend_from_slice(value);
    }
    Ok(())
}

/// The commits of a block, in order, with their sequences. Yields nothing after an error, and an error
/// unless the payload holds as many commits as the head says and nothing else.
#[derive(Clone, Debug)]
pub struct Commits<'a> {
    payload: &'a [u8],
    fields: Fields<'a>,
    next: Sequence,
    /// Commits that are still to come.
    left: u32,
    is_over: bool,
}

/// The writes of one commit, which are known to decode.
#[derive(Clone, Debug)]
pub struct Writes<'a> {
    fields: Fields<'a>,
    left: u32,
}

impl<'a> Commits<'a> {
    /// The commits of a block.
    #[must_use]
    pub fn new(head: &BlockHead, payload: &'a [u8]) -> Self {
        Self {
            payload,
            fields: Fields::new(payload),
            // A head that is not sound has no right numbers; any will do, for it has no right payload.
            next: head
                .last
                .wrapping_sub(u64::from(head.count))
                .wrapping_add(1),
            left: head.count,
            is_over: false,
        }
    }

    fn commit(&mut self) -> Result<Writes<'a>, &'static str> {
        let count = self.fields.u32().ok_or("cuts a commit off")?;
        let writes = Writes {
            fields: self.fields.clone(),
            left: count,
        };
        for _ in 0..count {
            decode_write(&mut self.fields)?;
        }
        Ok(writes)
    }

    fn fail(&mut self, why: &'static str) -> BadPayload {
        self.is_over = true;
        BadPayload {
            offset: self.payload.len() - self.fields.rest().len(),
            why,
        }
    }
}

impl<'a> Iterator for Commits<'a> {
    type Item = Result<(Sequence, Writes<'a>), BadPayload>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        if self.left == 0 {
            self.is_over = true;
            let is_whole = self.fields.rest().is_empty();
            return (!is_whole).then(|| Err(self.fail("comes after the last commit")));
        }
        let sequence = self.next;
        match self.commit() {
            Ok(writes) => {
                self.next = sequence.wrapping_add(1);
                self.left -= 1;
                Some(Ok((sequence, writes)))
            }
            Err(why) => Some(Err(self.fail(why))),
        }
    }
}

impl<'a> Iterator for Writes<'a> {
    type Item = (&'a [u8], Change<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        decode_write(&mut self.fields).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Every write takes bytes, so this is bounded by the payload.
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Writes<'_> {}

fn decode_write<'a>(fields: &mut Fields<'a>) -> Result<(&'a [u8], Change<'a>), &'static str> {
    let mut ahead = fields.clone();
    let mut parts = || {
        let kind = ahead.u8()?;
        let key_length = usize::from(ahead.u16()?);
        let value_length = usize::try_from(ahead.u32()?).ok()?;
        let expires_ms = ahead.u64()?;
        let key = ahead.bytes(key_length)?;
        let value = ahead.bytes(value_length)?;
        Some((kind, key, value, expires_ms))
    };
    let (kind, key, value, expires_ms) = parts().ok_or("begins a write that is cut off")?;
    let change = match kind {
        0 => Change::Put { value, expires_ms },
        1 | 2 if !value.is_empty() || expires_ms != 0 => {
            return Err("begins a removal that has a value");
        }
        1 => Change::Delete,
        2 => Change::Expire,
        _ => return Err("begins a write of a kind that is not known"),
    };
    *fields = ahead;
    Ok((key, change))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Written<'a> = Vec<(&'a [u8], Change<'a>)>;

    fn head(count: u32) -> BlockHead {
        BlockHead {
            last: 100,
            count,
            ..BlockHead::default()
        }
    }

    fn commits() -> Vec<Written<'static>> {
        let value = Change::Put {
            value: b"value",
            expires_ms: 77,
        };
        vec![
            vec![(&b"a"[..], value), (b"", Change::Delete)],
            vec![],
            vec![(b"b", Change::Expire), (b"c", Change::Delete)],
        ]
    }

    fn encoded() -> Vec<u8> {
        let mut buffer = Vec::new();
        for commit in commits() {
            encode_commit(&mut buffer, commit.into_iter()).unwrap();
        }
        buffer
    }

    #[test]
    fn commits_come_back_with_their_numbers() {
        let payload = encoded();
        let back: Vec<(Sequence, Written<'_>)> = Commits::new(&head(3), &payload)
            .map(|commit| commit.map(|(sequence, writes)| (sequence, writes.collect())))
            .collect::<Result<_, _>>()
            .unwrap();
        let expected: Vec<_> = (98..).zip(commits()).collect();
        assert_eq!(back, expected);
    }

    #[test]
    fn a_payload_with_another_number_of_commits_is_refused() {
        let payload = encoded();
        for count in [0, 1, 2, 4, u32::MAX] {
            let back: Result<Vec<_>, _> = Commits::new(&head(count), &payload).collect();
            back.map(|commits| commits.len()).unwrap_err();
        }
        for cut in 0..payload.len() {
            let back: Result<Vec<_>, _> = Commits::new(&head(3), &payload[..cut]).collect();
            back.map(|commits| commits.len()).unwrap_err();
        }
    }

    #[test]
    fn a_key_that_is_too_long_leaves_the_buffer_alone() {
        let mut buffer = b"before".to_vec();
        let key = vec![0; 65_536];
        let writes = [(&b"a"[..], Change::Delete), (&key[..], Change::Delete)];
        let refused = encode_commit(&mut buffer, writes.into_iter());
        assert_eq!((refused, &buffer[..]), (Err(TooLarge), &b"before"[..]));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_read_and_never_panics(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..200),
            count in any::<u32>(),
            last in any::<u64>(),
        ) {
            let head = BlockHead { count, last, ..BlockHead::default() };
            for commit in Commits::new(&head, &bytes).flatten() {
                prop_assert!(commit.1.len() <= bytes.len());
                prop_assert_eq!(commit.1.len(), commit.1.count());
            }
            let small = BlockHead { count: count % 4, last: 9, ..BlockHead::default() };
            Commits::new(&small, &bytes).for_each(drop);
        }
    }
}
