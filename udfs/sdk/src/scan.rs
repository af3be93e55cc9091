//! Walking over ranges of keys, in the order of their bytes.

use std::ops::Bound;

use crate::raw;

/// Entries are fetched in pages of this size, or of one entry where that is larger.
const PAGE_BYTES: usize = 8192;

/// A range of keys to walk over, and how.
///
/// ```no_run
/// use luge_udf::kv;
/// for (key, value) in kv::prefix("score:").reverse().limit(10).entries() {
///     // the ten last entries
/// }
/// ```
///
/// Costs fuel for each page of 8 KiB, for each entry, and for every 16 bytes copied. What was walked over is
/// recorded as read, so that a key that another commit adds there meanwhile is a conflict.
#[derive(Debug, Clone)]
pub struct Range {
    start: Vec<u8>,
    end: Vec<u8>,
    limit: u32,
    reverse: bool,
}

/// All keys that begin with these bytes; all keys for none.
pub fn prefix(prefix: impl AsRef<[u8]>) -> Range {
    let start = prefix.as_ref().to_vec();
    let mut end = start.clone();
    // The first key after the prefix: without its trailing 0xff, and the byte before them one higher.
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    Range {
        start,
        end,
        limit: u32::MAX,
        reverse: false,
    }
}

/// The keys of a range, such as `"a".."b"`, `"a"..="b"` or `"a"..`.
pub fn range<K: AsRef<[u8]>>(keys: impl std::ops::RangeBounds<K>) -> Range {
    let start = match keys.start_bound() {
        Bound::Unbounded => Vec::new(),
        Bound::Included(key) => key.as_ref().to_vec(),
        Bound::Excluded(key) => after(key.as_ref()),
    };
    let end = match keys.end_bound() {
        Bound::Unbounded => Vec::new(),
        Bound::Included(key) => after(key.as_ref()),
        Bound::Excluded(key) => key.as_ref().to_vec(),
    };
    // The host reads an empty end as "to the last key"; here it is an end before every key.
    let nothing = end.is_empty() && !matches!(keys.end_bound(), Bound::Unbounded);
    Range {
        start,
        end,
        limit: if nothing { 0 } else { u32::MAX },
        reverse: false,
    }
}

/// The smallest key above this one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl Range {
    /// From the last key to the first.
    #[must_use]
    pub const fn reverse(mut self) -> Self {
        self.reverse = !self.reverse;
        self
    }

    /// At most so many entries.
    #[must_use]
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = self.limit.min(u32::try_from(entries).unwrap_or(u32::MAX));
        self
    }

    /// Opens the scan.
    ///
    /// At most 16 may be open at once; dropping one closes it. A write of this call shows in a scan from its
    /// next page on.
    #[must_use]
    pub fn entries(&self) -> Entries {
        Entries {
            pages: Pages::open(self, 0),
        }
    }

    /// The same without the values, which are not copied then.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys {
            pages: Pages::open(self, raw::KEYS_ONLY),
        }
    }
}

/// The entries of a scan, as key and value.
#[derive(Debug)]
pub struct Entries {
    pages: Pages,
}

impl Entries {
    /// The next entry where it lies, in the page that it was fetched in. To take it as an iterator takes two
    /// allocations, which in a walk over many entries is most of what it costs.
    ///
    /// ```no_run
    /// use luge_udf::kv;
    /// let mut long = 0;
    /// let mut entries = kv::prefix("note:").entries();
    /// while let Some((_, value)) = entries.next_borrowed() {
    ///     long += usize::from(value.len() > 1000);
    /// }
    /// ```
    pub fn next_borrowed(&mut self) -> Option<(&[u8], &[u8])> {
        self.pages.next()
    }
}

impl Iterator for Entries {
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.pages.next()?;
        Some((key.to_vec(), value.to_vec()))
    }
}

/// The keys of a scan.
#[derive(Debug)]
pub struct Keys {
    pages: Pages,
}

impl Keys {
    /// The next key where it lies, as of [`Entries::next_borrowed`].
    pub fn next_borrowed(&mut self) -> Option<&[u8]> {
        self.pages.next().map(|(key, _)| key)
    }
}

impl Iterator for Keys {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pages.next().map(|(key, _)| key.to_vec())
    }
}

#[derive(Debug)]
struct Pages {
    // Nothing where the scan has ended, or where there was nothing to open.
    handle: Option<i32>,
    page: Vec<u8>,
    // The page's bytes from `position` up to `filled` are entries not yet given out.
    position: usize,
    filled: usize,
}

impl Pages {
    fn open(range: &Range, flags: u32) -> Self {
        let flags = flags | if range.reverse { raw::REVERSE } else { 0 };
        let handle =
            (range.limit > 0).then(|| raw::kv_scan(&range.start, &range.end, range.limit, flags));
        Self {
            handle,
            page: Vec::new(),
            position: 0,
            filled: 0,
        }
    }

    fn next(&mut self) -> Option<(&[u8], &[u8])> {
        if self.position == self.filled {
            self.fill(PAGE_BYTES)?;
        }
        let rest = self.page.get(self.position..self.filled)?;
        let (key_length, rest) = split_length(rest)?;
        let (value_length, rest) = split_length(rest)?;
        let (key, rest) = rest.split_at_checked(key_length)?;
        let value = rest.get(..value_length)?;
        self.position += 8 + key_length + value_length;
        Some((key, value))
    }

    fn fill(&mut self, page_bytes: usize) -> Option<()> {
        let handle = self.handle?;
        if self.page.len() < page_bytes {
            self.page.resize(page_bytes, 0);
        }
        let written = raw::kv_scan_next(handle, &mut self.page);
        let length = usize::try_from(written.unsigned_abs()).ok()?;
        match written {
            ..0 => self.fill(length),
            0 => self.close(),
            _ => {
                (self.position, self.filled) = (0, length);
                Some(())
            }
        }
    }

    /// Returns nothing, as there is nothing more to come.
    fn close(&mut self) -> Option<()> {
        if let Some(handle) = self.handle.take() {
            raw::kv_scan_close(handle);
        }
        None
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // A panic in a test has ended the call already, and with it the scan.
        if !std::thread::panicking() {
            self.close();
        }
    }
}

fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*length)).ok()?, rest))
}
