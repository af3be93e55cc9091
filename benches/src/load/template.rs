//! Requests as bytes that were written once, with places for their keys.

use super::keys::Keys;

/// The digits of a key's number in a request, with zeros in front.
pub const KEY_DIGITS: usize = 12;

/// What is written anew in each request: the last of the digits.
const PATCHED_DIGITS: usize = 8;

/// Which key stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The one that was drawn for the request.
    Drawn,
    /// Another one than that.
    Another,
    /// One that is not there yet.
    Inserted,
    /// One of those inserted last.
    Latest,
}

/// A request, or several that go together.
#[derive(Clone, Debug, Default)]
pub struct Template {
    /// The bytes, with zeros for the keys' numbers.
    pub bytes: Vec<u8>,
    places: Vec<(usize, Key)>,
    /// How many replies it has.
    pub replies: u32,
}

impl Template {
    /// Adds a key's prefix, and a place for its number.
    pub fn key(&mut self, prefix: &str, key: Key) {
        self.bytes.extend_from_slice(prefix.as_bytes());
        self.bytes.extend_from_slice(&[b'0'; KEY_DIGITS]);
        self.places.push((self.bytes.len() - PATCHED_DIGITS, key));
    }

    /// Adds bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds another template, with its places.
    pub fn append(&mut self, other: &Self) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let moved = other.places.iter().map(|(at, key)| (at + offset, *key));
        self.places.extend(moved);
        self.replies += other.replies;
    }

    /// Writes the request with keys that are drawn for it.
    pub fn write(&self, keys: &mut Keys, out: &mut Vec<u8>) {
        let drawn = match self.places.first() {
            Some((_, Key::Drawn | Key::Another)) => keys.draw(),
            _ => 0,
        };
        self.write_with(out, |key| match key {
            Key::Drawn => drawn,
            Key::Another => keys.another(drawn),
            Key::Inserted => keys.insert(),
            Key::Latest => keys.latest(),
        });
    }

    /// Writes the request with one key at all places but that of another key, which has the next number.
    pub fn write_at(&self, number: u64, out: &mut Vec<u8>) {
        self.write_with(out, |key| match key {
            Key::Another => number + 1,
            Key::Drawn | Key::Inserted | Key::Latest => number,
        });
    }

    fn write_with(&self, out: &mut Vec<u8>, mut number: impl FnMut(Key) -> u64) {
        let offset = out.len();
        out.extend_from_slice(&self.bytes);
        for (at, key) in &self.places {
            let place = out
                .get_mut(offset + at..)
                .and_then(|it| it.first_chunk_mut());
            if let Some(place) = place {
                *place = digits(number(*key));
            }
        }
    }
}

/// A number's last eight digits: all at once, in the lanes of one word, which is a third of what eight divisions take.
fn digits(number: u64) -> [u8; PATCHED_DIGITS] {
    let number = number % 100_000_000;
    // Two halves of four digits, four of two, eight of one; the quotients by multiplication and shift.
    let halves = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | ((halves - 100 * hundreds) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    let each = tens | ((pairs - 10 * tens) << 8);
    (each | 0x3030_3030_3030_3030).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::keys::Distribution;
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        let numbers = (0..200_000)
            .chain((0..100_000_000).step_by(7_919))
            .chain([99_999_999]);
        for number in numbers {
            assert_eq!(digits(number), format!("{number:08}").as_bytes());
        }
    }

    #[test]
    fn keys_are_written_at_their_places() {
        let mut inner = Template::default();
        inner.key("a:", Key::Drawn);
        inner.raw(b"|");
        inner.key("b:", Key::Another);
        inner.replies = 1;
        let mut outer = Template::default();
        outer.raw(b"<");
        outer.append(&inner);
        outer.raw(b">");
        let mut out = b"before".to_vec();
        outer.write_at(41, &mut out);
        assert_eq!(out, b"before<a:000000000041|b:000000000042>");
        assert_eq!(outer.replies, 1);
    }

    #[test]
    fn one_draw_serves_all_places_of_a_request() {
        let mut template = Template::default();
        template.key("", Key::Drawn);
        template.key("", Key::Drawn);
        let mut keys = Keys::new(1_000_000, Distribution::Uniform, 3);
        let mut out = Vec::new();
        template.write(&mut keys, &mut out);
        assert_eq!(out[..12], out[12..]);
        assert_ne!(out[..12], *b"000000000000");
    }
}
