//! What a guest logs: bounded, escaped, and under the name of its module.

use std::sync::Arc;

use tracing::{debug, error, info, trace, warn};

use super::guest_log::{Admission, GuestLog, LogLine, LogRate};

/// The most lines of one call that reach the log, so that a loop can't fill the disk.
const MAX_LINES: u32 = 100;

/// The most bytes of one line; the rest is cut off, and that is said.
const MAX_LINE_BYTES: usize = 4096;

/// The most characters of a line that a caller is told.
const MAX_TOLD_CHARACTERS: usize = 512;

const WARN: u32 = 3;
const ERROR: u32 = 4;

/// Who logs, and where that goes.
pub(super) struct Speaker<'a> {
    pub(super) module: &'a str,
    pub(super) function: &'a Arc<str>,
    pub(super) request: u64,
    pub(super) rate: &'a LogRate,
    pub(super) log: Option<&'a GuestLog>,
}

/// How much of its log a call has left.
#[derive(Debug)]
pub(super) struct LogBudget {
    lines: u32,
    /// What was written to the standard streams since the last line ended.
    partial: Vec<u8>,
    /// The last error, for the answer to whoever called: it often says why a trap followed.
    last_error: Option<String>,
}

impl Default for LogBudget {
    fn default() -> Self {
        Self {
            lines: MAX_LINES,
            partial: Vec::new(),
            last_error: None,
        }
    }
}

impl LogBudget {
    /// Logs one text. `level` counts from 0 (trace) to 4 (error).
    pub(super) fn log(&mut self, speaker: &Speaker<'_>, level: u32, text: &[u8]) {
        if self.lines == 0 {
            return;
        }
        self.lines -= 1;
        let text = escape(text);
        speaker.say(level, &text);
        if level == ERROR {
            self.last_error = Some(text.chars().take(MAX_TOLD_CHARACTERS).collect());
        }
        if self.lines == 0 {
            let text = format!("more than {MAX_LINES} lines in one call; the rest is dropped");
            speaker.say(WARN, &text);
        }
    }

    /// Takes the last error.
    pub(super) fn take_last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    /// Logs what a guest writes to a standard stream, line by line.
    pub(super) fn stream(&mut self, speaker: &Speaker<'_>, level: u32, bytes: &[u8]) {
        for byte in bytes {
            if self.lines == 0 {
                return;
            }
            if *byte == b'\n' || self.partial.len() >= MAX_LINE_BYTES {
                let line = std::mem::take(&mut self.partial);
                self.log(speaker, level, &line);
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
        }
    }

    /// Logs what is left of a line that was not ended.
    pub(super) fn finish(&mut self, speaker: &Speaker<'_>) {
        let line = std::mem::take(&mut self.partial);
        if !line.is_empty() {
            self.log(speaker, 2, &line);
        }
    }
}

impl Speaker<'_> {
    /// Puts a line into the server's log, and keeps it for those who ask for guests' lines.
    fn say(&self, level: u32, text: &str) {
        let Some(log) = self.log else {
            return emit(self.module, self.request, level, text);
        };
        let now_ms = log.now_ms();
        match log.admit(self.rate, now_ms) {
            Admission::Taken => self.keep(log, now_ms, level, text),
            Admission::FirstDropped => {
                let limit = log.rate_limit();
                let text = format!("more than {limit} lines in one second; the rest is dropped");
                self.keep(log, now_ms, WARN, &text);
            }
            Admission::Dropped => {}
        }
    }

    fn keep(&self, log: &GuestLog, time_ms: u64, level: u32, text: &str) {
        emit(self.module, self.request, level, text);
        log.keep(LogLine {
            time_ms,
            level: u8::try_from(level).unwrap_or(u8::MAX),
            call: self.request,
            module: self.module.into(),
            function: Arc::clone(self.function),
            message: text.to_owned(),
        });
    }
}

/// Control characters would let a guest forge lines or steer a terminal.
fn escape(text: &[u8]) -> String {
    let shown = String::from_utf8_lossy(text.get(..MAX_LINE_BYTES).unwrap_or(text));
    let mut escaped = String::with_capacity(shown.len());
    for character in shown.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    if text.len() > MAX_LINE_BYTES {
        escaped.push_str(" (cut)");
    }
    escaped
}

fn emit(module: &str, request: u64, level: u32, text: &str) {
    match level {
        0 => trace!(target: "luge::guest", module, request, "{text}"),
        1 => debug!(target: "luge::guest", module, request, "{text}"),
        2 => info!(target: "luge::guest", module, request, "{text}"),
        3 => warn!(target: "luge::guest", module, request, "{text}"),
        _ => error!(target: "luge::guest", module, request, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_long_lines_are_cut() {
        assert_eq!(escape(b"a\x1b[2Jb\r\nc"), "a\\u{1b}[2Jb\\r\\nc");
        assert!(escape(&[b'x'; 5000]).ends_with(" (cut)"));
    }

    #[test]
    fn a_call_has_a_bounded_number_of_lines() {
        let mut budget = LogBudget::default();
        let speaker = Speaker {
            module: "m",
            function: &Arc::default(),
            request: 1,
            rate: &LogRate::default(),
            log: None,
        };
        for _ in 0..MAX_LINES * 2 {
            budget.log(&speaker, 2, b"line");
        }
        assert_eq!(budget.lines, 0);
    }
}
