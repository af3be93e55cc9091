//! What guests logged lately, for whoever wants to read it: a ring of lines within bounds.
//!
//! Who reads follows by the numbers of lines, which count up. Who is slow finds that lines have gone in
//! between, and how many; nobody who logs waits for anybody who reads.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What a line counts for beside its texts, in bytes.
const LINE_OVERHEAD_BYTES: usize = 128;

/// A line that a guest logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// From 0 (trace) to 4 (error).
    pub level: u8,
    /// The request's number.
    pub call: u64,
    /// The module.
    pub module: Box<str>,
    /// The function.
    pub function: Arc<str>,
    /// The text, escaped.
    pub message: String,
}

/// The bounds of what is kept of guests' lines.
#[derive(Clone, Copy, Debug)]
pub struct LogBounds {
    /// Lines that are kept.
    pub lines: usize,
    /// The same in bytes.
    pub bytes: usize,
    /// Lines of one module in a second.
    pub rate: u64,
}

/// The lines that are kept.
pub struct GuestLog {
    bounds: LogBounds,
    wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    kept: Mutex<Kept>,
    /// The number of the next line, for those who wait for it.
    next: watch::Sender<u64>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    /// The number of the line behind the newest.
    next: u64,
}

/// How many lines a module logged in one second. Threads that begin a second together may let a line
/// more through.
#[derive(Debug, Default)]
pub struct LogRate {
    second: AtomicU64,
    lines: AtomicU64,
}

/// What becomes of a line by its module's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Taken,
    /// It is the first one too many of its second.
    FirstDropped,
    Dropped,
}

/// Lines from a number on.
#[derive(Debug, Default)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<Arc<LogLine>>,
    /// How many lines before them are not kept any more.
    pub skipped: u64,
    /// The number to go on with.
    pub next: u64,
}

impl fmt::Debug for GuestLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GuestLog({} lines)", self.lock().lines.len())
    }
}

impl GuestLog {
    /// A log without lines.
    pub fn new(bounds: LogBounds, wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self {
            bounds,
            wall_ms,
            kept: Mutex::default(),
            next: watch::Sender::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Lines that were dropped because their module logged too many in a second.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The number of the oldest line that is kept.
    pub fn oldest(&self) -> u64 {
        self.lock().oldest()
    }

    /// The number of the line behind the newest.
    pub fn next(&self) -> u64 {
        self.lock().next
    }

    /// Tells whenever there are new lines.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// Up to `limit` lines from the number `from` on.
    pub fn page(&self, from: u64, limit: usize) -> LogPage {
        let kept = self.lock();
        let first = from.max(kept.oldest());
        let passed = usize::try_from(first - kept.oldest()).unwrap_or(usize::MAX);
        let lines: Vec<_> = kept
            .lines
            .iter()
            .skip(passed)
            .take(limit)
            .cloned()
            .collect();
        LogPage {
            skipped: first - from,
            next: first + lines.len() as u64,
            lines,
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        (self.wall_ms)()
    }

    pub(super) fn rate_limit(&self) -> u64 {
        self.bounds.rate
    }

    /// Whether a module may log another line at this time.
    pub(super) fn admit(&self, rate: &LogRate, now_ms: u64) -> Admission {
        let second = now_ms / 1_000;
        if rate.second.swap(second, Ordering::Relaxed) != second {
            rate.lines.store(0, Ordering::Relaxed);
        }
        let before = rate.lines.fetch_add(1, Ordering::Relaxed);
        if before < self.bounds.rate {
            return Admission::Taken;
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        match before == self.bounds.rate {
            true => Admission::FirstDropped,
            false => Admission::Dropped,
        }
    }

    /// Keeps a line, in the place of the oldest where there is no room.
    pub(super) fn keep(&self, line: LogLine) {
        let mut kept = self.lock();
        kept.bytes += line_bytes(&line);
        kept.lines.push_back(Arc::new(line));
        kept.next += 1;
        while kept.lines.len() > self.bounds.lines || kept.bytes > self.bounds.bytes {
            let Some(oldest) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= line_bytes(&oldest);
        }
        let next = kept.next;
        drop(kept);
        self.next.send_replace(next);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn oldest(&self) -> u64 {
        self.next - self.lines.len() as u64
    }
}

fn line_bytes(line: &LogLine) -> usize {
    LINE_OVERHEAD_BYTES + line.message.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: usize, bytes: usize) -> GuestLog {
        let bounds = LogBounds {
            lines,
            bytes,
            rate: 2,
        };
        GuestLog::new(bounds, Arc::new(|| 5))
    }

    fn line(message: &str) -> LogLine {
        LogLine {
            time_ms: 5,
            level: 2,
            call: 1,
            module: "m".into(),
            function: "f".into(),
            message: message.to_owned(),
        }
    }

    fn texts(page: &LogPage) -> Vec<&str> {
        page.lines
            .iter()
            .map(|line| line.message.as_str())
            .collect()
    }

    #[test]
    fn the_oldest_lines_go_by_number_and_by_bytes_and_a_slow_reader_learns_how_many() {
        let log = log(3, 1_000);
        for text in ["a", "b", "c", "d", "e"] {
            log.keep(line(text));
        }
        let page = log.page(1, 2);
        assert_eq!(
            (texts(&page), page.skipped, page.next),
            (vec!["c", "d"], 1, 4)
        );
        let page = log.page(4, 10);
        assert_eq!((texts(&page), page.skipped, page.next), (vec!["e"], 0, 5));
        log.keep(line(&"x".repeat(700)));
        assert_eq!((log.oldest(), log.next()), (4, 6));
        // One that is larger than all of it is not kept.
        log.keep(line(&"x".repeat(1_000)));
        let page = log.page(5, 10);
        assert_eq!((page.lines.len(), page.skipped, page.next), (0, 2, 7));
    }

    #[test]
    fn a_module_has_so_many_lines_in_each_second() {
        let (log, rate) = (log(3, 1_000), LogRate::default());
        let admit = |now_ms| log.admit(&rate, now_ms);
        use Admission::{Dropped, FirstDropped, Taken};
        assert_eq!(
            [1, 2, 3, 4].map(admit),
            [Taken, Taken, FirstDropped, Dropped]
        );
        assert_eq!(
            [1_000, 1_999, 1_999].map(admit),
            [Taken, Taken, FirstDropped]
        );
        assert_eq!(log.dropped(), 3);
    }
}
