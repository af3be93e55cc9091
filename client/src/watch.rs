//! Watching keys: what is committed below a prefix, commit by commit.

use luge_protocol::{Command, Key, KeyChange, WatchEvent};

use crate::builder::within;
use crate::client::Client;
use crate::error::Error;
use crate::stream::{Excess, Next, Stream};

/// The changes of one commit that are put together at the most, in bytes.
const MAX_COMMIT_BYTES: usize = 256 << 20;

/// What to watch. The default: values, too, from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Whether to leave the values out.
    pub keys_only: bool,
    /// The first commit wanted, as far as the server still has it; from now on where it is none.
    pub from: Option<u64>,
}

/// What one commit changed below the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its sequence, which is the version of what it wrote.
    pub sequence: u64,
    /// The changes, in the order of the keys.
    pub changes: Vec<KeyChange>,
}

/// A watch, by [`Client::watch`]. Dropping it stops it.
///
/// It shares its client's connection and holds nothing on it up: where more than 4 MiB arrive
/// without being taken, it ends with [`Error::Behind`], which says where to go on.
#[derive(Debug)]
pub struct Watch {
    stream: Stream,
    /// Everything up to this commit was handed out.
    sequence: u64,
    /// The parts of a commit that is arriving.
    parts: Vec<KeyChange>,
    parts_bytes: usize,
}

impl Client {
    /// Watches the keys that begin with `prefix`. Returns once the server has begun: every commit
    /// behind [`Watch::sequence`] will be told.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), luge_client::Error> {
    /// # let server = luge_server::testing::start().await;
    /// # let client = luge_client::Client::connect(server.address()).await?;
    /// use luge_client::{ChangeKind, WatchOptions};
    ///
    /// let mut users = client.watch("user:", WatchOptions::default()).await?;
    /// client.set("user:1", "Ada").await?;
    ///
    /// let commit = users.next().await?.expect("the watch goes on");
    /// assert_eq!(commit.changes[0].key, "user:1");
    /// assert_eq!(commit.changes[0].change, ChangeKind::Set);
    /// assert_eq!(commit.changes[0].value.as_deref(), Some(&b"Ada"[..]));
    /// users.stop().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::request`]; `forbidden` where hooks of `get` stand around the values, `too_old`
    /// where `from` lies too far back, `overloaded` where there are too many streams.
    pub async fn watch(
        &self,
        prefix: impl AsRef<[u8]>,
        options: WatchOptions,
    ) -> Result<Watch, Error> {
        let command = Command::Watch(luge_protocol::Watch {
            prefix: Key::from(prefix.as_ref()),
            keys_only: options.keys_only.then_some(true),
            from: options.from,
        });
        let begin = async {
            let mut stream = Stream::open(self, command, Excess::End).await?;
            match stream.next::<WatchEvent>().await? {
                Next::Event(event) => Ok((stream, event.sequence)),
                Next::End | Next::Lost => Err(Error::Protocol(
                    "a watch that ends before it begins".to_owned(),
                )),
            }
        };
        let (stream, sequence) = within(self.request_timeout, begin).await?;
        Ok(Watch {
            stream,
            sequence,
            parts: Vec::new(),
            parts_bytes: 0,
        })
    }
}

impl Watch {
    /// The next commit, however long it takes; none once the watch has ended. May be dropped before
    /// it is ready, and loses nothing.
    ///
    /// # Errors
    /// [`Error::Server`] where the server ends the watch: `overloaded` where it was not read for too
    /// long, `too_old` where the server lost what comes next, `forbidden` where a hook appeared,
    /// `unavailable` where the server stops. [`Error::Behind`] where commits were not taken.
    /// [`Error::resume_from`] tells where a new watch can go on; where it is none, as when the
    /// connection broke, that is one behind [`Watch::sequence`].
    pub async fn next(&mut self) -> Result<Option<Commit>, Error> {
        loop {
            let event = match self.stream.next::<WatchEvent>().await? {
                Next::Event(event) => event,
                Next::End => return Ok(None),
                Next::Lost => {
                    let from = self.sequence + 1;
                    return Err(Error::Behind { from });
                }
            };
            let sequence = event.sequence;
            if let Some(changes) = self.join(event)? {
                self.sequence = sequence;
                if !changes.is_empty() {
                    return Ok(Some(Commit { sequence, changes }));
                }
            }
        }
    }

    /// Every commit up to this one has been handed out.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Ends it, and returns once the server has.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn stop(self) -> Result<(), Error> {
        self.stream.stop().await
    }

    /// The changes of a whole commit, once all its parts are there.
    fn join(&mut self, mut event: WatchEvent) -> Result<Option<Vec<KeyChange>>, Error> {
        if self.parts.is_empty() && !event.more {
            return Ok(Some(event.changes));
        }
        self.parts_bytes += event.max_encoded_bytes();
        if self.parts_bytes > MAX_COMMIT_BYTES {
            return Err(Error::Protocol(format!(
                "a commit of more than {MAX_COMMIT_BYTES} bytes"
            )));
        }
        self.parts.append(&mut event.changes);
        if event.more {
            return Ok(None);
        }
        self.parts_bytes = 0;
        Ok(Some(std::mem::take(&mut self.parts)))
    }
}
