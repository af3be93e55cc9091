//! Grants: which keys the functions of a module may read and write.
//!
//! A module asks for prefixes in its describers, and whoever pushes it may grant less. A module that asks
//! for none is granted every key.

use bytes::Bytes;
use luge_protocol::{ErrorCode, Grant};

use super::call::Stop;
use super::describe::DescribeError;
use crate::transaction::prefix_end;

/// The most prefixes that a module may be granted for reading, and the most for writing: each access looks
/// among them, and each version keeps them in its record.
pub const MAX_GRANTED_PREFIXES: usize = 64;

/// The most bytes of a key that a message shows.
const MAX_SHOWN_BYTES: usize = 128;

/// The keys that the functions of a module may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    read: Prefixes,
    write: Prefixes,
}

/// Prefixes in ascending order, none of which begins with another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prefixes(Vec<Bytes>);

impl Granted {
    /// What a grant comes to.
    #[must_use]
    pub fn new(grant: &Grant) -> Self {
        Self {
            read: Prefixes::new(&grant.read),
            write: Prefixes::new(&grant.write),
        }
    }

    /// Refuses to read a key outside of the grant.
    ///
    /// # Errors
    /// `forbidden`, with the key.
    pub fn check_read(&self, key: &[u8]) -> Result<(), Stop> {
        match self.read.covers(key) {
            true => Ok(()),
            false => Err(forbidden(&format!("read the key {}", shown(key)))),
        }
    }

    /// Refuses to write a key outside of the grant.
    ///
    /// # Errors
    /// `forbidden`, with the key.
    pub fn check_write(&self, key: &[u8]) -> Result<(), Stop> {
        match self.write.covers(key) {
            true => Ok(()),
            false => Err(forbidden(&format!("write the key {}", shown(key)))),
        }
    }

    /// Refuses to scan what does not lie within one prefix; an empty `end` reaches to the last key.
    ///
    /// # Errors
    /// `forbidden`, with the range.
    pub fn check_scan(&self, start: &[u8], end: &[u8]) -> Result<(), Stop> {
        if self.read.covers_range(start, end) {
            return Ok(());
        }
        let to = match end.is_empty() {
            true => "on".to_owned(),
            false => format!("to {}", shown(end)),
        };
        Err(forbidden(&format!("scan from {} {to}", shown(start))))
    }
}

impl Prefixes {
    fn new(prefixes: &[Bytes]) -> Self {
        let mut sorted = prefixes.to_vec();
        sorted.sort();
        // What begins with a prefix stands behind it, before whatever does not.
        sorted.dedup_by(|later, earlier| later.starts_with(earlier));
        Self(sorted)
    }

    /// The prefix that a key begins with.
    fn of(&self, key: &[u8]) -> Option<&Bytes> {
        // Whatever stands between a prefix and a key that begins with it begins with it, too; so it is
        // the last one at or before the key, or none.
        let behind = self.0.partition_point(|prefix| prefix[..] <= *key);
        let last = self.0.get(behind.checked_sub(1)?)?;
        key.starts_with(last).then_some(last)
    }

    fn covers(&self, key: &[u8]) -> bool {
        self.of(key).is_some()
    }

    fn covers_range(&self, start: &[u8], end: &[u8]) -> bool {
        let Some(prefix) = self.of(start) else {
            return false;
        };
        let last = prefix_end(prefix);
        last.is_empty() || (!end.is_empty() && *end <= last[..])
    }
}

/// Takes what the lines of a module ask for together.
pub(super) fn add(asked: &mut Option<Grant>, line: Grant) {
    let asked = asked.get_or_insert_default();
    asked.read.extend(line.read);
    asked.write.extend(line.write);
}

/// What is granted of what a module asks for; `pushed` is what the push grants, all where it says nothing.
///
/// # Errors
/// The bounds, and a push that grants more than is asked for.
pub(super) fn settle(
    asked: Option<Grant>,
    pushed: Option<&Grant>,
    max_key_bytes: usize,
) -> Result<Option<Grant>, DescribeError> {
    for (whose, grant) in [
        ("the module asks for", asked.as_ref()),
        ("the push grants", pushed),
    ] {
        if let Some(grant) = grant {
            check_bounds(whose, grant, max_key_bytes)?;
        }
    }
    let granted = match (&asked, pushed) {
        (_, None) => asked.as_ref(),
        (None, Some(pushed)) => Some(pushed),
        (Some(asked), Some(pushed)) => {
            check_subset("read", &asked.read, &pushed.read)?;
            check_subset("write", &asked.write, &pushed.write)?;
            Some(pushed)
        }
    };
    Ok(granted.map(tidy))
}

/// What a module may miss that a push grants less than it asks for, or that asks for nothing: a sentence each.
pub(super) fn lacking(asked: Option<&Grant>, pushed: &Grant) -> Vec<String> {
    let is_none = pushed.read.is_empty() && pushed.write.is_empty();
    let Some(asked) = asked else {
        // Whoever says that it gets no key means that it uses none.
        if is_none {
            return Vec::new();
        }
        return vec![
            "the module does not say which keys it uses, so nothing tells whether the grant has them; what it has not ends a call with `forbidden`".to_owned(),
        ];
    };
    let missing = |access: &str, asked: &[Bytes], pushed: &[Bytes]| {
        let (asked, pushed) = (Prefixes::new(asked), Prefixes::new(pushed));
        let missing = asked
            .0
            .iter()
            .filter(|it| !pushed.covers(it))
            .map(|it| shown(it));
        let missing: Vec<String> = missing.collect();
        (!missing.is_empty()).then(|| {
            let keys = missing.join(", ");
            format!(
                "the module asks to {access} all keys that begin with {keys}, and the grant has fewer; beyond it a call ends with `forbidden`"
            )
        })
    };
    let read = missing("read", &asked.read, &pushed.read);
    let write = missing("write", &asked.write, &pushed.write);
    read.into_iter().chain(write).collect()
}

/// The same grant in as few prefixes as it takes, in order.
#[must_use]
pub fn tidy(grant: &Grant) -> Grant {
    Grant {
        read: Prefixes::new(&grant.read).0,
        write: Prefixes::new(&grant.write).0,
    }
}

fn check_bounds(whose: &str, grant: &Grant, max_key_bytes: usize) -> Result<(), DescribeError> {
    for (access, prefixes) in [("read", &grant.read), ("write", &grant.write)] {
        let count = prefixes.len();
        if count > MAX_GRANTED_PREFIXES {
            return Err(DescribeError(format!(
                "{whose} {count} prefixes to {access}, which exceeds the limit of {MAX_GRANTED_PREFIXES}"
            )));
        }
        if let Some(long) = prefixes.iter().find(|it| it.len() > max_key_bytes) {
            let length = long.len();
            return Err(DescribeError(format!(
                "{whose} a prefix of {length} bytes to {access}, and a key has {max_key_bytes} at the most"
            )));
        }
    }
    Ok(())
}

fn check_subset(access: &str, asked: &[Bytes], pushed: &[Bytes]) -> Result<(), DescribeError> {
    let asked = Prefixes::new(asked);
    match pushed.iter().find(|prefix| !asked.covers(prefix)) {
        None => Ok(()),
        Some(prefix) => Err(DescribeError(format!(
            "the push grants it to {access} keys that begin with {}, and it does not ask for them",
            shown(prefix)
        ))),
    }
}

fn forbidden(what: &str) -> Stop {
    let message = format!("the module may not {what}: it was not granted to");
    Stop::Failed(ErrorCode::Forbidden, message)
}

/// A key as messages show it: keys may be long, and hold anything.
fn shown(key: &[u8]) -> String {
    match key.get(..MAX_SHOWN_BYTES) {
        Some(beginning) if key.len() > MAX_SHOWN_BYTES => {
            format!("\"{}…\"", beginning.escape_ascii())
        }
        _ => format!("\"{}\"", key.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(prefixes: &[&'static str]) -> Prefixes {
        Prefixes::new(&list(prefixes))
    }

    fn list(prefixes: &[&'static str]) -> Vec<Bytes> {
        prefixes
            .iter()
            .map(|it| Bytes::from_static(it.as_bytes()))
            .collect()
    }

    #[test]
    fn a_prefix_that_another_covers_is_left_out() {
        let tidy = prefixes(&["user:1", "b", "user:", "a", "user:", "user"]);
        assert_eq!(tidy, Prefixes(list(&["a", "b", "user"])));
        assert_eq!(prefixes(&["x", ""]), Prefixes(list(&[""])));
    }

    #[test]
    fn keys_are_covered_by_the_prefix_that_they_begin_with() {
        let granted = prefixes(&["a", "user:", "usher"]);
        for key in ["a", "ab", "user:", "user:9", "usher"] {
            assert!(granted.covers(key.as_bytes()), "{key}");
        }
        for key in ["", "b", "user", "user;", "us", "ushes", "z"] {
            assert!(!granted.covers(key.as_bytes()), "{key}");
        }
        assert!(!prefixes(&[]).covers(b"a"));
        assert!(prefixes(&[""]).covers(b""));
    }

    #[test]
    fn a_range_lies_in_one_prefix_or_is_not_covered() {
        let granted = prefixes(&["a", "b", "user:"]);
        let covers =
            |start: &str, end: &str| granted.covers_range(start.as_bytes(), end.as_bytes());
        for (start, end) in [
            ("a", "b"),
            ("user:", "user;"),
            ("user:1", "user:2"),
            ("a", ""),
        ] {
            assert_eq!(covers(start, end), !end.is_empty(), "{start} {end}");
        }
        // Both are granted, and a scan needs one that covers all of it.
        assert!(!covers("a", "c"));
        assert!(!covers("", "b"));
        assert!(!covers("user", "user;"));
        assert!(!covers("user:", "user;\0"));
        assert!(prefixes(&[""]).covers_range(b"", b""));
        let last = Prefixes::new(&[Bytes::from_static(b"\xff")]);
        assert!(last.covers_range(b"\xff\x01", b""));
    }

    #[test]
    fn a_push_grants_a_part_of_what_is_asked_for_and_no_more() {
        let grant = |read: &[&'static str], write: &[&'static str]| Grant {
            read: list(read),
            write: list(write),
        };
        let asked = || Some(grant(&["a", "user:"], &["user:"]));
        assert_eq!(settle(asked(), None, 10), Ok(asked()));
        let less = grant(&["user:1"], &[]);
        assert_eq!(settle(asked(), Some(&less), 10), Ok(Some(less.clone())));
        assert_eq!(settle(None, Some(&less), 10), Ok(Some(less)));
        for more in [
            grant(&["b"], &[]),
            grant(&["user"], &[]),
            grant(&[], &["a"]),
            grant(&[""], &[]),
        ] {
            assert!(settle(asked(), Some(&more), 10).is_err(), "{more:?}");
        }
    }

    #[test]
    fn long_keys_are_shown_by_their_beginning_and_nothing_acts_upon_a_terminal() {
        assert_eq!(shown(b"a\x1b[2J\xff"), r#""a\x1b[2J\xff""#);
        assert_eq!(shown(&[b'k'; 129]), format!("\"{}…\"", "k".repeat(128)));
    }
}
