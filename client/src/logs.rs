//! Reading what functions logged.

use std::collections::VecDeque;

use luge_protocol::{Command, LogEvent, LogLevel, LogLine, Logs};

use crate::builder::within;
use crate::client::Client;
use crate::error::Error;
use crate::stream::{Excess, Next, Stream};

/// What to read of what functions logged. The default: all lines that the server keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Only this module's lines.
    pub module: Option<String>,
    /// Only lines of this level or a more serious one.
    pub level: Option<LogLevel>,
    /// Whether to go on with new lines as they come.
    pub follow: bool,
}

/// What comes next in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// A line.
    Line(LogLine),
    /// So many lines are not kept any more, since they were not read in time.
    Skipped(u64),
}

/// Lines that functions logged, by [`Client::logs`]. Dropping it stops it.
///
/// While lines are not taken, other requests on this connection wait: it has best a connection of its
/// own.
#[derive(Debug)]
pub struct LogReader {
    stream: Stream,
    waiting: VecDeque<LogEntry>,
}

impl Client {
    /// Reads the lines that functions logged, the oldest that the server keeps first.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), luge_client::Error> {
    /// # let server = luge_server::testing::start().await;
    /// # let client = luge_client::Client::connect(server.address()).await?;
    /// use luge_client::{LogEntry, LogOptions};
    ///
    /// let mut log = client.logs(LogOptions::default()).await?;
    /// while let Some(entry) = log.next().await? {
    ///     match entry {
    ///         LogEntry::Line(line) => println!("{}: {}", line.module, line.message),
    ///         LogEntry::Skipped(lines) => println!("{lines} lines are lost"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::request`]; `overloaded` where there are too many streams.
    pub async fn logs(&self, options: LogOptions) -> Result<LogReader, Error> {
        let command = Command::Logs(Logs {
            module: options.module.map(Into::into),
            follow: options.follow.then_some(true),
            level: options.level,
        });
        let begin = async {
            let stream = Stream::open(self, command, Excess::Wait).await?;
            let mut log = LogReader {
                stream,
                waiting: VecDeque::new(),
            };
            log.receive().await?;
            Ok(log)
        };
        within(self.request_timeout, begin).await
    }
}

impl LogReader {
    /// The next line, or how many are lost; none at the end. May be dropped before it is ready, and
    /// loses nothing.
    ///
    /// # Errors
    /// [`Error::Server`] where the server ends it: `unavailable` where it stops.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, Error> {
        while self.waiting.is_empty() {
            if !self.receive().await? {
                return Ok(None);
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// Ends it, and returns once the server has.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn stop(self) -> Result<(), Error> {
        self.stream.stop().await
    }

    /// Answers whether it goes on.
    async fn receive(&mut self) -> Result<bool, Error> {
        match self.stream.next::<LogEvent>().await? {
            Next::Event(event) => {
                let skipped = (event.skipped > 0).then_some(LogEntry::Skipped(event.skipped));
                self.waiting.extend(skipped);
                self.waiting
                    .extend(event.lines.into_iter().map(LogEntry::Line));
                Ok(true)
            }
            Next::End => Ok(false),
            Next::Lost => Err(Error::Closed),
        }
    }
}
