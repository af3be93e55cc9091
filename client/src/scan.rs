//! Scans: a page at a time, or entry by entry over all pages.

use std::vec;

use bytes::Bytes;
use luge_protocol::{Command, Key, Range, Scan, ScanEntry, ScanReply};

use crate::client::Client;
use crate::error::Error;

/// Which entries to scan, and how. The default: every key, 100 a page, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// Which keys.
    pub keys: Keys,
    /// The most entries of one page; the server's default (100) where it is none.
    pub page_entries: Option<u64>,
    /// Whether to go from the last key to the first.
    pub reverse: bool,
    /// Whether to leave the values out.
    pub keys_only: bool,
}

/// A set of keys that lie side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// Every key.
    #[default]
    All,
    /// Those that begin so.
    Prefix(Bytes),
    /// Those from `start` up to, and not including, `end`; an empty `end` reaches to the last key.
    Range {
        /// The first key.
        start: Bytes,
        /// The first key behind the range.
        end: Bytes,
    },
}

/// An entry of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value; empty where only keys were asked for.
    pub value: Bytes,
    /// The version.
    pub version: u64,
}

/// A page of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// Where the next page begins; none at the end.
    pub cursor: Option<Bytes>,
    /// The sequence of the moment that the page shows.
    pub sequence: u64,
}

impl ScanOptions {
    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self {
            keys: Keys::Prefix(prefix.into()),
            ..Self::default()
        }
    }

    /// The keys from `start` up to, and not including, `end`; an empty `end` reaches to the last key.
    pub fn range(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        let (start, end) = (start.into(), end.into());
        Self {
            keys: Keys::Range { start, end },
            ..Self::default()
        }
    }

    fn command<'a>(&'a self, cursor: Option<&'a Bytes>) -> Scan<'a> {
        let (prefix, range) = match &self.keys {
            Keys::All => (None, None),
            Keys::Prefix(prefix) => (Some(Key::from(prefix)), None),
            Keys::Range { start, end } => {
                let (start, end) = (Key::from(start), Key::from(end));
                (None, Some(Range { start, end }))
            }
        };
        Scan {
            prefix,
            range,
            limit: self.page_entries,
            reverse: self.reverse.then_some(true),
            keys_only: self.keys_only.then_some(true),
            cursor: cursor.map(Key::from),
        }
    }
}

impl Client {
    /// One page: the first, or the one that begins at the cursor of the page before, asked for with
    /// the same options.
    ///
    /// # Errors
    /// As [`Client::request`]; `blocked` where a hook that must not be passed over fails.
    pub async fn scan_page(
        &self,
        options: &ScanOptions,
        cursor: Option<&Bytes>,
    ) -> Result<Page, Error> {
        let command = Command::Scan(options.command(cursor));
        let ScanReply(entries, cursor, sequence) = self.request(command).await?;
        let entries = entries.into_iter().map(Entry::from).collect();
        Ok(Page {
            entries,
            cursor,
            sequence,
        })
    }

    /// Every entry, over as many pages as there are. Each page is of a moment of its own.
    #[must_use]
    pub fn scan(&self, options: ScanOptions) -> Scanner {
        Scanner {
            client: self.clone(),
            options,
            page: Vec::new().into_iter(),
            position: Position::Start,
        }
    }
}

/// A scan over all pages, by [`Client::scan`]. At most one page is held.
#[derive(Debug)]
pub struct Scanner {
    client: Client,
    options: ScanOptions,
    page: vec::IntoIter<Entry>,
    position: Position,
}

#[derive(Debug)]
enum Position {
    Start,
    At(Bytes),
    End,
}

impl Scanner {
    /// The next entry; none at the end.
    ///
    /// # Errors
    /// As [`Client::scan_page`]. The same page is asked for again by the next call.
    pub async fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            if let Some(entry) = self.page.next() {
                return Ok(Some(entry));
            }
            let cursor = match &self.position {
                Position::Start => None,
                Position::At(cursor) => Some(cursor),
                Position::End => return Ok(None),
            };
            let page = self.client.scan_page(&self.options, cursor).await?;
            self.position = match page.cursor {
                // Else a server that repeats itself would keep us here for ever.
                Some(next) if Some(&next) == cursor && page.entries.is_empty() => {
                    return Err(Error::Protocol("a scan does not go on".to_owned()));
                }
                Some(next) => Position::At(next),
                None => Position::End,
            };
            self.page = page.entries.into_iter();
        }
    }

    /// The entries that remain, at most `limit` of them.
    ///
    /// # Errors
    /// As [`Scanner::next`].
    pub async fn take(&mut self, limit: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        while entries.len() < limit
            && let Some(entry) = self.next().await?
        {
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl From<ScanEntry> for Entry {
    fn from(ScanEntry(key, value, version): ScanEntry) -> Self {
        Self {
            key,
            value: value.unwrap_or_default(),
            version,
        }
    }
}
