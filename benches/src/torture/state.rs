//! What a key may hold.

use std::fmt;

/// What a key holds, or should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing.
    Absent,
    /// A number as decimal text.
    Number(i64),
    /// So many bytes that follow from this number: see [`State::encode`].
    Filled(u64, usize),
    /// A value that no client wrote.
    Foreign(usize),
}

impl State {
    /// The value that stands for it; none for a key that is absent.
    #[must_use]
    pub fn encode(self) -> Option<Vec<u8>> {
        match self {
            Self::Absent | Self::Foreign(_) => None,
            Self::Number(number) => Some(number.to_string().into_bytes()),
            Self::Filled(number, bytes) => {
                let beginning = number.to_le_bytes();
                let mut value = Vec::with_capacity(bytes + beginning.len());
                while value.len() < bytes {
                    let block = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ value.len() as u64;
                    // Random bytes, so that nothing compresses and a block in the wrong place shows.
                    let block = block.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(29);
                    value.extend_from_slice(&(block ^ number).to_le_bytes());
                }
                value.truncate(bytes);
                // Below eight bytes values of the same length may be equal; so is the reverse, then.
                for (place, byte) in value.iter_mut().zip(beginning) {
                    *place = byte;
                }
                Some(value)
            }
        }
    }

    /// Whether this value stands for it.
    #[must_use]
    pub fn is(self, value: Option<&[u8]>) -> bool {
        self.encode().as_deref() == value && !matches!(self, Self::Foreign(_))
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("nothing"),
            Self::Number(number) => write!(formatter, "the number {number}"),
            Self::Filled(number, bytes) => write!(formatter, "value {number} of {bytes} bytes"),
            Self::Foreign(bytes) => write!(formatter, "{bytes} bytes that nobody wrote"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_from_every_other() {
        let value = State::Filled(7, 100).encode().unwrap();
        assert_eq!(value.len(), 100);
        assert!(State::Filled(7, 100).is(Some(&value)));
        assert!(!State::Filled(8, 100).is(Some(&value)));
        assert!(!State::Filled(7, 101).is(Some(&value)));
        assert!(!State::Absent.is(Some(&value)));
        let mut torn = value;
        torn[64..].fill(0);
        assert!(!State::Filled(7, 100).is(Some(&torn)));
    }

    #[test]
    fn an_empty_value_is_not_an_absent_key() {
        assert!(State::Filled(1, 0).is(Some(b"")));
        assert!(!State::Filled(1, 0).is(None));
        assert!(State::Absent.is(None));
    }
}
