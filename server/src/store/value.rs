//! Values and keys as the store holds them: the count of those who share one lies beside its bytes, in
//! one piece of memory. The usual form has the two apart, and reading both is most of what a look-up of a
//! short value costs (measured: `luge-benches --bin store -- --only reads`).

use bytes::Bytes;

/// A short value in a piece of fixed size.
struct Piece<const SIZE: usize> {
    length: u16,
    bytes: [u8; SIZE],
}

impl<const SIZE: usize> Piece<SIZE> {
    fn share(head: &[u8], tail: &[u8]) -> Bytes {
        let mut bytes = [0; SIZE];
        let length = head.len() + tail.len();
        let Some((first, rest)) = bytes
            .get_mut(..length)
            .and_then(|place| place.split_at_mut_checked(head.len()))
        else {
            return Bytes::from([head, tail].concat());
        };
        first.copy_from_slice(head);
        rest.copy_from_slice(tail);
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        Bytes::from_owner(Self { length, bytes })
    }
}

impl<const SIZE: usize> AsRef<[u8]> for Piece<SIZE> {
    fn as_ref(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// A copy of a value. Above 256 bytes the difference no longer counts.
#[must_use]
pub fn value(bytes: &[u8]) -> Bytes {
    joined(&[], bytes)
}

/// A copy of two parts, one behind the other, in the same form.
#[must_use]
pub fn joined(head: &[u8], tail: &[u8]) -> Bytes {
    // With the count and the length, sizes that fit allocations of multiples of 16.
    match head.len() + tail.len() {
        0 => Bytes::new(),
        1..=22 => Piece::<22>::share(head, tail),
        23..=38 => Piece::<38>::share(head, tail),
        39..=70 => Piece::<70>::share(head, tail),
        71..=118 => Piece::<118>::share(head, tail),
        119..=182 => Piece::<182>::share(head, tail),
        183..=262 => Piece::<262>::share(head, tail),
        _ => Bytes::from([head, tail].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_size_are_what_they_were() {
        for length in 0..400_usize {
            let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
            assert_eq!(value(&bytes), bytes);
            let (head, tail) = bytes.split_at(length / 3);
            assert_eq!(joined(head, tail), bytes);
        }
    }
}
