//! Plain `get` and `set`, answered at once: no future, no snapshot, no transaction, and no copy of what is
//! read but the one into the reply.
//!
//! Whatever is not so plain goes the way of every request ([`Session::handle`]), which answers the same and tells
//! what is wrong: hooks, options, limits that are exceeded, keys that memory does not have, what expires, a
//! store that has to be waited for, a token that has changed, and every request while the log's level is
//! `debug`, since here there are no spans. Nothing has been done then.
//!
//! Measured with `luge-bench compare --workloads get,set --servers luge --durability everysec --rounds 2 --seconds 1
//! --pipeline 1,16,64`, 50 connections, builds beside it on the same two cores, CPU of the server for each request in µs,
//! before this and the batches of `net` and with both: a `get` 10.1 and 9.2 at pipeline 1, 2.4 and 1.2 at 16, 2.3 and 0.9 at 64; a
//! `set` 11.5 and 10.1, 4.4 and 2.3, 3.7 and 1.6.

use std::sync::atomic::Ordering;

use luge_protocol::{
    Command, Get, HookCommand, Key, PlainCommand, PlainRequest, RequestId, Set, Value,
    encode_get_response, encode_set_response,
};
use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::{Core, Session};
use crate::function::Runtime;
use crate::store::{Decision, Evaluated, Sequence, Store, Target, Write, value};
use crate::transaction::Keyspace;

/// The longest value that is answered with at once. A longer one is shared, and not copied while others may
/// wait for its key.
const MAX_VALUE_BYTES: usize = 4 << 10;

/// The longest response that is written here, as a body: the value, and what stands around it.
pub const MAX_PLAIN_RESPONSE_BYTES: usize = MAX_VALUE_BYTES + 64;

/// An answer whose response has been written already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The request's number.
    pub id: RequestId,
    /// What the store must have acked before the response may leave.
    pub gate: Sequence,
}

impl<S: Store, R: Runtime<S::Snapshot>> Session<S, R> {
    /// Answers the request in a frame's body, where that can be done at once, by appending the response's body
    /// to `target`, of at most [`MAX_PLAIN_RESPONSE_BYTES`]. `None` where it can't: then nothing was done or
    /// appended, and [`Session::handle`] is to be asked.
    pub fn answer_at_once(&mut self, body: &[u8], target: &mut Vec<u8>) -> Option<Written> {
        let request = PlainRequest::decode(body)?;
        if LevelFilter::current() >= Level::DEBUG || !self.may_use_data() {
            return None;
        }
        let core = &*self.core;
        core.settings.command.check_key(request.key).ok()?;
        self.place.clear();
        Keyspace::Data.write_key(request.key, &mut self.place);
        let key = Key::from(request.key);
        let (id, command, gate, has_written) = match request.command {
            PlainCommand::Get => {
                let gate = get(core, &request, &self.place, self.last_seen, target)?;
                (request.id, Command::Get(Get { key }), gate, false)
            }
            PlainCommand::Set { value } => {
                let gate = set(core, &request, value, &self.place, target)?;
                let value = Value::from(value);
                (request.id, Command::Set(plain_set(key, value)), gate, true)
            }
        };
        core.requests.fetch_add(1, Ordering::Relaxed);
        core.stats.add_request(Some(command.index()), None);
        self.saw(gate, has_written);
        Some(Written { id, gate })
    }
}

fn plain_set<'a>(key: Key<'a>, value: Value<'a>) -> Set<'a> {
    Set {
        key,
        value,
        ttl_ms: None,
        keep_ttl: None,
        condition: None,
        return_old: None,
    }
}

fn get<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    request: &PlainRequest<'_>,
    place: &[u8],
    last_seen: Sequence,
    target: &mut Vec<u8>,
) -> Option<Sequence> {
    if core.registry.load().has_hooks(HookCommand::Get) {
        return None;
    }
    let (gate, is_written) = core.store.peek_with(place, last_seen, |found| {
        let is_short = found.is_none_or(|found| found.value.len() <= MAX_VALUE_BYTES);
        if is_short {
            let found = found.map(|found| (found.value, found.version));
            encode_get_response(target, request.id, found);
        }
        is_short
    })?;
    is_written.then_some(gate)
}

fn set<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    request: &PlainRequest<'_>,
    new: &[u8],
    place: &[u8],
    target: &mut Vec<u8>,
) -> Option<Sequence> {
    let settings = &core.settings;
    settings.command.check_value(new).ok()?;
    if core
        .registry
        .load()
        .is_hooked(HookCommand::Set, request.key)
    {
        return None;
    }
    let write = Write::Put {
        value: value(new),
        expires_ms: 0,
    };
    if settings.writes.keys == 0 || write.bytes(place) > settings.writes.bytes {
        return None;
    }
    let _permit = core.coordinator.try_shared()?;
    let point = Target {
        key: place,
        looks: false,
        durable: settings.syncs_always,
    };
    let mut write = Some(write);
    let Evaluated { committed, .. } = core.store.evaluate_at_once(point, |_, _, _| Decision {
        write: write.take(),
        outcome: (),
    })?;
    let gate = committed?;
    encode_set_response(target, request.id, gate);
    Some(gate)
}
