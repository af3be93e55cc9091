//! Keys as memory holds them: short ones lie where they are looked at, without a second place to go
//! to, which is most of what a look-up costs.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// The longest key that needs no place of its own: the size of the other kind, without this one's
/// length and the tag.
const INLINE_BYTES: usize = 22;

/// A key.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// A short one.
    Inline {
        /// How many of the bytes count.
        length: u8,
        /// The key, and zeros.
        bytes: [u8; INLINE_BYTES],
    },
    /// A long one. It stands in several places, all of which share it.
    Shared(Arc<[u8]>),
}

impl Key {
    /// Bytes beside those of the key itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Shared(bytes) => bytes.len(),
        }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        inline(key).unwrap_or_else(|| Self::Shared(key.into()))
    }
}

fn inline(key: &[u8]) -> Option<Key> {
    let mut bytes = [0; INLINE_BYTES];
    bytes.get_mut(..key.len())?.copy_from_slice(key);
    let length = u8::try_from(key.len()).ok()?;
    Some(Key::Inline { length, bytes })
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self[..].cmp(&other[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_compare_as_their_bytes_do() {
        let keys: Vec<Vec<u8>> = (0..70).map(|length| vec![b'k'; length]).collect();
        for left in &keys {
            for right in &keys {
                let (left_key, right_key) = (Key::from(&left[..]), Key::from(&right[..]));
                assert_eq!(left_key.cmp(&right_key), left.cmp(right));
                assert_eq!(left_key == right_key, left == right);
            }
            assert_eq!(Key::from(&left[..]).to_bytes(), left[..]);
        }
        assert_eq!(size_of::<Key>(), 24);
    }
}
