//! The part of a run that is measured.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::answer;
use super::connection::Receiver;

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// What takes longer counts as this long.
const MAX_LATENCY_NS: u64 = 60_000_000_000;

/// The part of a run that is measured, and what came in it.
pub(super) struct Window {
    pub(super) from: Instant,
    pub(super) until: Instant,
    pub(super) now: Instant,
    pub(super) replies: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    pub(super) latency: Histogram<u64>,
}

impl Window {
    /// One that has not begun, and does not end for now.
    pub(super) fn new(now: Instant) -> Result<Self, String> {
        let latency = Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3)
            .map_err(|error| format!("no histogram: {error}"))?;
        Ok(Self {
            from: now + NEVER,
            until: now + NEVER,
            now,
            replies: 0,
            errors: 0,
            first_error: None,
            latency,
        })
    }

    /// Begins to measure, without an end for now.
    pub(super) fn open(&mut self, now: Instant) {
        (self.from, self.until) = (now, now + NEVER);
        self.replies = 0;
    }
}

impl Receiver for Window {
    fn received(&mut self, since: Instant, replies: u32) {
        if self.now < self.until {
            self.replies += u64::from(replies);
        }
        // Those that were asked in the window count as long as they took, also beyond its end.
        if since >= self.from && since < self.until {
            let nanoseconds = self.now.saturating_duration_since(since).as_nanos();
            let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
            self.latency
                .saturating_record_n(nanoseconds, u64::from(replies));
        }
    }

    fn refused(&mut self, reply: &[u8]) {
        self.errors += 1;
        self.first_error
            .get_or_insert_with(|| answer::printable(reply));
    }
}
