//! What is known of a server in numbers, as a value, for whoever makes a page of it.

use std::sync::atomic::{AtomicU64, Ordering};

use luge_protocol::FunctionKind;

use super::Core;
use crate::function::{Counted, Distribution, Runtime};
use crate::store::{Store, StoreFigures};

/// The numbers of one moment. Those that count begin with the server.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Open connections.
    pub connections: u64,
    /// What has passed through all connections.
    pub traffic: (u64, u64),
    /// Registered modules.
    pub modules: u64,
    /// Requests that run functions.
    pub running_calls: u64,
    /// Streams that have not ended.
    pub streams: u64,
    /// Requests by command and by `ok` or the code of the error, where there were any.
    pub requests: Vec<(&'static str, &'static str, u64)>,
    /// How long hooks took, in nanoseconds, by command, where there were any.
    pub hooks: Vec<(&'static str, Distribution)>,
    /// The functions that were called.
    pub functions: Vec<FunctionFigures>,
    /// Calls of functions beyond those that are counted.
    pub uncounted_calls: u64,
    /// Lines that guests logged, and that were dropped because they were too many in a second.
    pub dropped_log_lines: u64,
    /// The store.
    pub store: StoreFigures,
}

/// What was counted of a function.
#[derive(Clone, Debug)]
pub struct FunctionFigures {
    /// The module.
    pub module: String,
    /// The number of its version.
    pub version: u64,
    /// The function.
    pub function: String,
    /// What it is.
    pub kind: FunctionKind,
    /// What was counted.
    pub counted: Counted,
}

/// Bytes that have passed through connections; counted by whoever keeps those.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From clients.
    pub received_bytes: AtomicU64,
    /// To clients.
    pub sent_bytes: AtomicU64,
}

impl<S: Store, R: Runtime<S::Snapshot>> Core<S, R> {
    /// What has passed through connections; kept by whoever keeps connections.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The numbers of this moment. It may wait for locks that the store holds while it writes.
    pub fn figures(&self) -> Figures {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let settings = &self.settings;
        let running = settings.max_running - self.running.available_permits();
        let streams = settings.max_all_streams - self.stream_places.available_permits();
        Figures {
            uptime_ms: self.uptime_ms(),
            connections: of(&self.connections),
            traffic: (
                of(&self.traffic.received_bytes),
                of(&self.traffic.sent_bytes),
            ),
            modules: self.registry.load().modules().len() as u64,
            running_calls: running as u64,
            streams: streams as u64,
            requests: self.stats.requests(),
            hooks: self.stats.hook_times().collect(),
            functions: self.stats.functions(),
            uncounted_calls: self.stats.uncounted(),
            dropped_log_lines: self.log.dropped(),
            store: self.store.figures(),
        }
    }
}
