//! What a watcher is told of a commit: the changes below its prefix, in events that fit into frames.

use bytes::Bytes;
use luge_protocol::{ChangeKind, KeyChange, WatchEvent};

use crate::store::{CommittedChanges, Sequence, Write};
use crate::transaction::Keyspace;

/// The bytes of one event at the most, unless a single change has more: others on the connection get
/// their turn between events.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// What a watcher wants to know.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// The store's keys that begin so: users' keys alone.
    prefix: Bytes,
    keys_only: bool,
    max_frame_bytes: usize,
}

/// A change that does not fit into a frame by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    /// The commit.
    pub(super) sequence: Sequence,
    /// The user's key.
    pub(super) key: Bytes,
    /// What the event would take.
    pub(super) bytes: usize,
}

impl Filter {
    /// Of users' keys that begin with `prefix`.
    pub(super) fn new(prefix: &[u8], keys_only: bool, max_frame_bytes: usize) -> Self {
        Self {
            prefix: Keyspace::Data.key(prefix),
            keys_only,
            max_frame_bytes,
        }
    }

    /// The events of a commit; none where it changed nothing that is wanted.
    pub(super) fn events(&self, commit: CommittedChanges) -> Result<Vec<WatchEvent>, TooLarge> {
        let sequence = commit.sequence;
        let mut events: Vec<WatchEvent> = Vec::new();
        let mut event = WatchEvent::progress(sequence);
        let mut bytes = event.max_encoded_bytes();
        for (key, write) in commit.changes {
            if !key.starts_with(&self.prefix) {
                continue;
            }
            let change = self.change(&key, write);
            let more = change.max_encoded_bytes();
            if bytes + more > self.max_frame_bytes.min(MAX_EVENT_BYTES) && !event.changes.is_empty()
            {
                event.more = true;
                events.push(std::mem::replace(
                    &mut event,
                    WatchEvent::progress(sequence),
                ));
                bytes = event.max_encoded_bytes();
            }
            bytes += more;
            if bytes > self.max_frame_bytes {
                let key = change.key;
                return Err(TooLarge {
                    sequence,
                    key,
                    bytes,
                });
            }
            event.changes.push(change);
        }
        if !event.changes.is_empty() {
            events.push(event);
        }
        Ok(events)
    }

    fn change(&self, key: &Bytes, write: Write) -> KeyChange {
        let (change, value, expires_ms) = match write {
            Write::Put { value, expires_ms } => {
                let value = (!self.keys_only).then_some(value);
                (ChangeKind::Set, value, Some(expires_ms))
            }
            Write::Delete => (ChangeKind::Del, None, None),
            Write::Expire => (ChangeKind::Expire, None, None),
        };
        KeyChange {
            key: Keyspace::strip(key),
            change,
            value,
            expires_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], bytes: usize) -> (Bytes, Write) {
        let value = Bytes::from(vec![b'v'; bytes]);
        let write = Write::Put {
            value,
            expires_ms: 5,
        };
        (Keyspace::Data.key(key), write)
    }

    fn commit(changes: Vec<(Bytes, Write)>) -> CommittedChanges {
        CommittedChanges {
            sequence: 9,
            changes,
        }
    }

    fn keys(events: &[WatchEvent]) -> Vec<(String, bool)> {
        let key = |change: &KeyChange| change.key.escape_ascii().to_string();
        let line = |event: &WatchEvent| {
            let keys: Vec<String> = event.changes.iter().map(key).collect();
            (keys.join(" "), event.more)
        };
        events.iter().map(line).collect()
    }

    #[test]
    fn only_users_keys_below_the_prefix_are_told() {
        let changes = || {
            commit(vec![
                put(b"other", 1),
                put(b"user:1", 1),
                (Keyspace::Data.key(b"user:2"), Write::Delete),
                (Keyspace::Data.key(b"user:3"), Write::Expire),
                (Keyspace::Modules.key(b"user:4"), Write::Delete),
            ])
        };
        let events = Filter::new(b"user:", false, 1 << 20).events(changes());
        let events = events.unwrap();
        assert_eq!(
            keys(&events),
            [("user:1 user:2 user:3".to_owned(), false)],
            "one commit is one event"
        );
        let first = &events[0].changes[0];
        assert_eq!(
            (first.value.as_deref(), first.expires_ms),
            (Some(&b"v"[..]), Some(5))
        );
        let all = Filter::new(b"", true, 1 << 20).events(changes()).unwrap();
        assert_eq!(keys(&all)[0].0, "other user:1 user:2 user:3");
        assert_eq!(all[0].changes[0].value, None);
        let none = Filter::new(b"x", false, 1 << 20).events(changes());
        assert_eq!(none, Ok(Vec::new()));
    }

    #[test]
    fn a_commit_that_does_not_fit_into_a_frame_goes_on_in_the_next_event() {
        let filter = Filter::new(b"", false, 1_000);
        let big = commit(vec![
            put(b"a", 300),
            put(b"b", 300),
            put(b"c", 700),
            put(b"d", 1),
        ]);
        let events = filter.events(big).unwrap();
        let expected = [("a b", true), ("c d", false)];
        assert_eq!(keys(&events), expected.map(|(it, is)| (it.to_owned(), is)));
        assert!(events.iter().all(|it| it.max_encoded_bytes() <= 1_000));
        assert!(events.iter().all(|it| it.sequence == 9));
    }

    #[test]
    fn a_change_that_fits_into_no_frame_is_named() {
        let filter = Filter::new(b"", false, 1_000);
        let error = filter.events(commit(vec![put(b"a", 1), put(b"b", 1_000)]));
        let error = error.unwrap_err();
        assert_eq!((&error.key[..], error.sequence), (&b"b"[..], 9));
        let keys_alone = Filter::new(b"", true, 1_000);
        assert!(keys_alone.events(commit(vec![put(b"b", 1_000)])).is_ok());
    }
}
