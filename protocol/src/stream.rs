//! What streams tell: the events of `watch`. Those of `backup` are `bin` and need no type.

use bytes::Bytes;
use rmp::decode;
use serde::{Deserialize, Serialize};

use crate::list::list;

/// What a change takes in an event beside its key and value, at the most: names, heads and numbers.
const CHANGE_OVERHEAD_BYTES: usize = 64;

/// What an event takes beside its changes, the response around it included, at the most.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// One event of a `watch`, a map: what a commit changed, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEvent {
    /// The commit. Without changes: everything up to this commit has been told.
    pub sequence: u64,
    /// What it changed, in the order of the keys.
    #[serde(deserialize_with = "list")]
    pub changes: Vec<KeyChange>,
    /// Whether the commit goes on in the next event; left out where it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// One change of one key, a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The key.
    pub key: Bytes,
    /// What happened to it.
    pub change: ChangeKind,
    /// With `set`: the value, unless only keys were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Bytes>,
    /// With `set`: when the key expires, in milliseconds since 1970; 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It was written, or its expiry was changed.
    Set,
    /// It was deleted.
    Del,
    /// It was removed because its time had come.
    Expire,
}

impl ChangeKind {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Del => "del",
            Self::Expire => "expire",
        }
    }
}

impl WatchEvent {
    /// An event that changes nothing: everything up to this commit has been told.
    #[must_use]
    pub fn progress(sequence: u64) -> Self {
        Self {
            sequence,
            changes: Vec::new(),
            more: false,
        }
    }

    /// What it takes as a response, in bytes, at the most.
    #[must_use]
    pub fn max_encoded_bytes(&self) -> usize {
        let changes = self.changes.iter().map(KeyChange::max_encoded_bytes);
        EVENT_OVERHEAD_BYTES + changes.sum::<usize>()
    }
}

impl KeyChange {
    /// What it takes in an event, in bytes, at the most.
    #[must_use]
    pub fn max_encoded_bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        CHANGE_OVERHEAD_BYTES + self.key.len() + value
    }
}

/// Whether a response is the last one of a stream: nil, or an error. What is no response at all is
/// taken for the last one, too.
#[must_use]
pub fn is_last_of_stream(body: &[u8]) -> bool {
    let mut rest = body;
    let mut is_event = || -> Option<bool> {
        decode::read_array_len(&mut rest).ok()?;
        decode::read_int::<u64, _>(&mut rest).ok()?;
        decode::read_map_len(&mut rest).ok()?;
        let (name, tail) = decode::read_str_from_slice(rest).ok()?;
        Some(name == "ok" && *tail.first()? != rmp::Marker::Null.to_u8())
    };
    !is_event().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, ErrorReply, Reply, Response};

    fn encoded(outcome: Result<Reply, ErrorReply>) -> Vec<u8> {
        let mut body = Vec::new();
        let response = Response {
            id: u64::MAX,
            outcome,
        };
        response.encode(&mut body).unwrap();
        body
    }

    #[test]
    fn the_last_response_is_nil_or_an_error() {
        let event = Reply::Event(WatchEvent::progress(1));
        assert!(!is_last_of_stream(&encoded(Ok(event))));
        assert!(!is_last_of_stream(&encoded(Ok(Reply::Piece(
            Bytes::from_static(b"\xc0")
        )))));
        assert!(is_last_of_stream(&encoded(Ok(Reply::Done(())))));
        let error = ErrorReply::new(ErrorCode::TooOld, "gone");
        assert!(is_last_of_stream(&encoded(Err(error))));
        for garbage in [&b""[..], b"\x92", b"\x92\x01\x81\xa2ok", b"\xc1\xc1\xc1"] {
            assert!(is_last_of_stream(garbage));
        }
    }

    #[test]
    fn no_event_takes_more_than_it_says() {
        let change = |change, size: usize| KeyChange {
            key: vec![b'k'; size].into(),
            change,
            value: Some(vec![b'v'; size].into()),
            expires_ms: Some(u64::MAX),
        };
        for size in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
            for count in [0, 1, 15, 16, 300] {
                let event = WatchEvent {
                    sequence: u64::MAX,
                    changes: vec![change(ChangeKind::Expire, size); count.min(1 << 22 >> 16)],
                    more: true,
                };
                let limit = event.max_encoded_bytes();
                let found = encoded(Ok(Reply::Event(event))).len();
                assert!(found <= limit, "{found} > {limit}");
            }
        }
    }
}
