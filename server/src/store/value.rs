//! Values as the store holds them: the count of those who share a value lies beside its bytes, in one
//! piece of memory. The usual form has the two apart, and reading both is most of what a look-up of a
//! short value costs (measured: `luge-benches --bin store -- --only reads`).

use bytes::Bytes;

/// A short value in a piece of fixed size.
struct Piece<const SIZE: usize> {
    length: u16,
    bytes: [u8; SIZE],
}

impl<const SIZE: usize> Piece<SIZE> {
    fn share(value: &[u8]) -> Bytes {
        let mut bytes = [0; SIZE];
        let Some(place) = bytes.get_mut(..value.len()) else {
            return Bytes::copy_from_slice(value);
        };
        place.copy_from_slice(value);
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
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
    // With the count and the length, sizes that fit allocations of multiples of 16.
    match bytes.len() {
        0 => Bytes::new(),
        1..=22 => Piece::<22>::share(bytes),
        23..=38 => Piece::<38>::share(bytes),
        39..=70 => Piece::<70>::share(bytes),
        71..=118 => Piece::<118>::share(bytes),
        119..=182 => Piece::<182>::share(bytes),
        183..=262 => Piece::<262>::share(bytes),
        _ => Bytes::copy_from_slice(bytes),
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
        }
    }
}
