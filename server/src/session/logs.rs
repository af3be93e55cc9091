//! Reading what guests logged: the lines that are kept, and then those that come.

use std::sync::Arc;

use luge_protocol::{ErrorCode, ErrorReply, LogEvent, LogLevel, LogLine, Logs};
use tokio::sync::watch;

use crate::function::{self, GuestLog};

/// Lines that are told in one event at the most: each has 4 KiB and its escapes.
const MAX_EVENT_LINES: usize = 16;

/// The longest name of a module that is asked for, in bytes; none is longer.
const MAX_NAME_BYTES: usize = 64;

/// How far somebody has read.
pub(super) struct Reading {
    log: Arc<GuestLog>,
    module: Option<String>,
    level: LogLevel,
    /// The number of the line to go on with.
    next: u64,
    /// Where it ends; nowhere if lines are told as they come.
    end: Option<u64>,
    news: watch::Receiver<u64>,
}

impl Reading {
    /// Begins with the oldest line that is kept.
    ///
    /// # Errors
    /// No module has such a name.
    pub(super) fn new(log: &Arc<GuestLog>, logs: &Logs<'_>) -> Result<Self, ErrorReply> {
        let module = logs.module.as_deref();
        if let Some(length) = module.map(str::len).filter(|it| *it > MAX_NAME_BYTES) {
            let message = format!(
                "a name of {length} bytes exceeds the limit of {MAX_NAME_BYTES} for a module"
            );
            return Err(ErrorReply::new(ErrorCode::BadRequest, message));
        }
        // Before the end is looked at, so that no line is missed.
        let news = log.news();
        Ok(Self {
            module: module.map(str::to_owned),
            level: logs.level.unwrap_or(LogLevel::Trace),
            next: log.oldest(),
            end: (logs.follow != Some(true)).then(|| log.next()),
            news,
            log: Arc::clone(log),
        })
    }

    /// The next lines that are there already; none where nothing more is.
    pub(super) fn kept(&mut self) -> LogEvent {
        let mut event = LogEvent::default();
        while event.lines.is_empty() && event.skipped == 0 {
            let left = self
                .end
                .map_or(u64::MAX, |end| end.saturating_sub(self.next));
            let limit = usize::try_from(left).map_or(MAX_EVENT_LINES, |it| it.min(MAX_EVENT_LINES));
            let page = self.log.page(self.next, limit);
            if page.next == self.next {
                break;
            }
            self.next = page.next;
            event.skipped = page.skipped;
            let wanted = page.lines.iter().filter(|line| self.wants(line));
            event.lines = wanted.map(|line| told(line)).collect();
        }
        event
    }

    /// The next lines; nothing at the end. Where lines are told as they come, it waits for them.
    pub(super) async fn next(&mut self) -> Option<LogEvent> {
        loop {
            self.news.borrow_and_update();
            let event = self.kept();
            if event != LogEvent::default() {
                return Some(event);
            }
            // Those behind the end, and those that went before they were told, are of no account.
            if self.end.is_some() || self.news.changed().await.is_err() {
                return None;
            }
        }
    }

    fn wants(&self, line: &function::LogLine) -> bool {
        let is_of_module = self
            .module
            .as_deref()
            .is_none_or(|module| module == &*line.module);
        is_of_module && line.level >= u8::from(self.level)
    }
}

fn told(line: &function::LogLine) -> LogLine {
    LogLine {
        time_ms: line.time_ms,
        level: LogLevel::try_from(line.level).unwrap_or(LogLevel::Error),
        call: line.call,
        module: line.module.to_string(),
        function: line.function.to_string(),
        message: line.message.clone(),
    }
}
