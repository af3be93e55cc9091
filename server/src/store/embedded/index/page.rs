//! Pages of a scan.

use std::borrow::Cow;
use std::ops::Bound;

use bytes::{Bytes, BytesMut};
use sled::IVec;

use super::record::{Value, decode};
use super::stretches::{Found, Gap, Stretch};
use super::{Index, entry_key, guarded, storage};
use crate::store::{
    Entry, KeyRange, Millis, PageLimit, RowGlimpse, Sequence, StoreError, Visited, successor,
};

/// Rows that a scan finds before it copies them: the processor waits for the memory of all of them at
/// once then, which is most of what a scan costs.
const GATHERED_ROWS: usize = 32;

/// The most rows and bytes of a stretch that is kept: a fold of one of its keys takes away all of it.
const STRETCH: PageLimit = PageLimit {
    rows: 128,
    bytes: 32 << 10,
};

/// A page as the index has it.
#[derive(Default)]
pub(in super::super) struct IndexPage {
    pub(in super::super) rows: Vec<(Bytes, Entry)>,
    /// Rows whose record can't be read, by their place. What memory knows of the key overrules them.
    pub(in super::super) faults: Vec<(usize, StoreError)>,
    pub(in super::super) is_exhausted: bool,
}

/// What a scan looks for.
#[derive(Clone, Copy)]
pub(in super::super) struct Search {
    pub(in super::super) is_reverse: bool,
    /// Then there are no values.
    pub(in super::super) keys_only: bool,
    pub(in super::super) limit: PageLimit,
}

/// Which values are copied beside their keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    None,
    /// Those that lie in their records.
    Inline,
    All,
}

/// A row: of a stretch, which others look at, too, or of sled's.
type FoundRow<'a> = Cow<'a, (Bytes, Entry)>;

/// A page that is put together of stretches and of what sled says of the gaps between them, by whoever takes its rows
/// one after the other, until one is refused.
struct Gathering<T> {
    take: T,
    rows: usize,
    bytes: usize,
    /// What is still to come.
    rest: KeyRange,
    search: Search,
    /// The row that filled the page.
    last: Option<Bytes>,
    is_refused: bool,
    /// As of a page.
    faults: Vec<(usize, StoreError)>,
}

/// Collects rows of sled in one piece of memory: two allocations a row would cost as much as the look-up.
struct PageBuilder {
    bytes: BytesMut,
    rows: Vec<Place>,
    faults: Vec<(usize, StoreError)>,
    has_chunks: bool,
}

/// Where a row lies in the page's memory.
struct Place {
    key_end: usize,
    end: usize,
    version: Sequence,
    expires_ms: Millis,
}

/// Rows as sled has them.
struct ReadRows {
    page: IndexPage,
    /// Whether there are values in chunks, which are not kept for scans.
    has_chunks: bool,
}

impl Index {
    /// Entries from one end of a range.
    pub(in super::super) fn page(
        &self,
        range: &KeyRange,
        search: Search,
    ) -> Result<IndexPage, StoreError> {
        let mut rows = Vec::with_capacity(search.limit.rows.min(STRETCH.rows));
        let take = |row: FoundRow<'_>| {
            let mut row = row.into_owned();
            if search.keys_only {
                row.1.value = Bytes::new();
            }
            rows.push(row);
            true
        };
        let gathered = self.gather(range, search, take)?;
        let (is_exhausted, faults) = (gathered.rest.is_empty(), gathered.faults);
        Ok(IndexPage {
            rows,
            faults,
            is_exhausted,
        })
    }

    /// Shows the entries of such a page where they lie, until one is refused. Where it does not come to the end of the
    /// range, it tells the last one.
    pub(in super::super) fn visit(
        &self,
        range: &KeyRange,
        search: Search,
        take: &mut impl FnMut(RowGlimpse<'_>) -> bool,
    ) -> Result<Visited, StoreError> {
        let take = |row: FoundRow<'_>| {
            let (key, entry) = &*row;
            let mut glimpse = RowGlimpse::of(key, entry);
            if search.keys_only {
                glimpse.value = &[];
            }
            take(glimpse)
        };
        let gathered = self.gather(range, search, take)?;
        // Nobody overrules them here.
        if let Some((_, fault)) = gathered.faults.into_iter().next() {
            return Err(fault);
        }
        Ok(match gathered.is_refused {
            true => Visited::Refused,
            false => Visited::Through(gathered.last.filter(|_| !gathered.rest.is_empty())),
        })
    }

    fn gather<T: FnMut(FoundRow<'_>) -> bool>(
        &self,
        range: &KeyRange,
        search: Search,
        take: T,
    ) -> Result<Gathering<T>, StoreError> {
        let mut gathering = Gathering::new(range.clone(), search, take);
        while !gathering.is_done() {
            match self.stretches.find(&gathering.rest, search.is_reverse) {
                Found::Stretch(stretch) => gathering.take_of(&stretch),
                Found::Gap(gap) => self.read_gap(&gap, &mut gathering)?,
            }
        }
        Ok(gathering)
    }

    /// Entries from the beginning of a range, beside what is kept for scans, which should not give way to
    /// somebody who reads everything once.
    pub(in super::super) fn read_page(
        &self,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<IndexPage, StoreError> {
        let read = guarded(|| self.read_rows(range, false, limit, Values::All))?;
        Ok(read.page)
    }

    fn read_gap<T: FnMut(FoundRow<'_>) -> bool>(
        &self,
        gap: &Gap,
        gathering: &mut Gathering<T>,
    ) -> Result<(), StoreError> {
        let Search {
            is_reverse,
            keys_only,
            ..
        } = gathering.search;
        let mut limit = gathering.room();
        if gap.is_wanted() {
            limit.rows = limit.rows.min(STRETCH.rows);
            // Values that the scan does not ask for should not make it go to sled for each row.
            limit.bytes = match keys_only {
                true => STRETCH.bytes,
                false => limit.bytes.min(STRETCH.bytes),
            };
        }
        let values = match (keys_only, gap.is_wanted()) {
            (false, _) => Values::All,
            (true, true) => Values::Inline,
            (true, false) => Values::None,
        };
        let read = guarded(|| self.read_rows(&gap.range, is_reverse, limit, values))?;
        let ReadRows { page, has_chunks } = read;
        let mut covered = gap.range.clone();
        match page.rows.last() {
            Some((last, _)) if !page.is_exhausted && is_reverse => {
                covered.start = last.clone();
            }
            Some((last, _)) if !page.is_exhausted => covered.end = successor(last),
            _ => {}
        }
        if gap.is_wanted() && !has_chunks && page.faults.is_empty() {
            self.stretches.keep(gap, &covered, &page.rows, is_reverse);
        }
        gathering.add(page, covered);
        Ok(())
    }

    fn read_rows(
        &self,
        range: &KeyRange,
        is_reverse: bool,
        limit: PageLimit,
        values: Values,
    ) -> Result<ReadRows, StoreError> {
        let bounds = (
            Bound::Included(entry_key(&range.start)),
            Bound::Excluded(entry_key(&range.end)),
        );
        let mut rows = self.tree.range::<Vec<u8>, _>(bounds);
        let mut next = || match is_reverse {
            true => rows.next_back(),
            false => rows.next(),
        };
        let mut page = PageBuilder::new(limit);
        let mut found = Vec::with_capacity(GATHERED_ROWS.min(limit.rows));
        let is_exhausted = loop {
            if page.is_full(limit) {
                break false;
            }
            let wanted = GATHERED_ROWS.min(page.room(limit));
            while found.len() < wanted
                && let Some(row) = next()
            {
                found.push(row.map_err(storage)?);
            }
            let is_last = found.len() < wanted;
            for (key, record) in found.drain(..) {
                if page.is_full(limit) {
                    return Ok(page.finish(false));
                }
                let key = key.get(1..).unwrap_or_default();
                page.add(self, key, &record, values);
            }
            if is_last {
                break true;
            }
        };
        Ok(page.finish(is_exhausted))
    }
}

impl<T: FnMut(FoundRow<'_>) -> bool> Gathering<T> {
    fn new(rest: KeyRange, search: Search, take: T) -> Self {
        Self {
            take,
            rows: 0,
            bytes: 0,
            rest,
            search,
            last: None,
            is_refused: false,
            faults: Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.is_refused || self.rest.is_empty() || self.is_full()
    }

    fn is_full(&self) -> bool {
        let limit = self.search.limit;
        self.rows > 0 && (self.rows >= limit.rows || self.bytes >= limit.bytes)
    }

    /// How much more there may be.
    fn room(&self) -> PageLimit {
        let limit = self.search.limit;
        PageLimit {
            rows: limit.rows.saturating_sub(self.rows).max(1),
            bytes: limit.bytes.saturating_sub(self.bytes),
        }
    }

    /// Takes the rows of a stretch that reaches over the end of the rest from which the scan goes on.
    fn take_of(&mut self, stretch: &Stretch) {
        let behind = |bound: &Bytes| stretch.rows.partition_point(|(key, _)| key < bound);
        let rows = behind(&self.rest.start)..behind(&self.rest.end);
        let rows = stretch.rows.get(rows).unwrap_or_default();
        let (mut left, is_reverse) = (rows.iter(), self.search.is_reverse);
        let mut next = || match is_reverse {
            true => left.next_back(),
            false => left.next(),
        };
        while let Some(row) = next() {
            if self.is_done() || !self.push(Cow::Borrowed(row)) {
                return;
            }
        }
        if is_reverse {
            self.rest.end = stretch.start.clone().max(self.rest.start.clone());
        } else {
            self.rest.start = stretch.end.clone().min(self.rest.end.clone());
        }
    }

    /// Adds what sled says of a part of the rest, from that end on.
    fn add(&mut self, page: IndexPage, covered: KeyRange) {
        let before = self.rows;
        let faults = page.faults.into_iter();
        let faults = faults.map(|(at, fault)| (before + at, fault));
        self.faults.extend(faults);
        for row in page.rows {
            if !self.push(Cow::Owned(row)) {
                return;
            }
        }
        match self.search.is_reverse {
            true => self.rest.end = covered.start,
            false => self.rest.start = covered.end,
        }
    }

    fn push(&mut self, row: FoundRow<'_>) -> bool {
        let (key, entry) = &*row;
        let value = match self.search.keys_only {
            true => 0,
            false => entry.value.len(),
        };
        let bytes = key.len() + value;
        let (limit, rows) = (self.search.limit, self.rows + 1);
        let is_last = rows >= limit.rows || self.bytes + bytes >= limit.bytes;
        let key = is_last.then(|| key.clone());
        if !(self.take)(row) {
            self.is_refused = true;
            return false;
        }
        (self.rows, self.bytes) = (rows, self.bytes + bytes);
        if key.is_some() {
            self.last = key;
        }
        true
    }
}

impl PageBuilder {
    fn new(limit: PageLimit) -> Self {
        const ROW_BYTES: usize = 96;
        const MAX_ROWS: usize = 1024;
        // Rows are seldom shorter.
        const MIN_ROW_BYTES: usize = 32;
        let rows = limit
            .rows
            .min(limit.bytes / MIN_ROW_BYTES + 1)
            .min(MAX_ROWS);
        Self {
            bytes: BytesMut::with_capacity((rows * ROW_BYTES).min(limit.bytes)),
            rows: Vec::with_capacity(rows),
            faults: Vec::new(),
            has_chunks: false,
        }
    }

    fn is_full(&self, limit: PageLimit) -> bool {
        !self.rows.is_empty() && (self.rows.len() >= limit.rows || self.bytes.len() >= limit.bytes)
    }

    /// How many rows more there may be, and one at the least.
    fn room(&self, limit: PageLimit) -> usize {
        limit.rows.saturating_sub(self.rows.len()).max(1)
    }

    fn add(&mut self, index: &Index, key: &[u8], record: &IVec, values: Values) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        let head = decode(key, record).and_then(|record| {
            match record.value {
                _ if values == Values::None => {}
                Value::Inline(value) => self.bytes.extend_from_slice(value),
                Value::Chunked { length } => {
                    self.has_chunks = true;
                    if values == Values::All {
                        index.read_chunks(key, length, &mut self.bytes)?;
                    }
                }
            }
            Ok((record.version, record.expires_ms))
        });
        let (version, expires_ms) = head.unwrap_or_else(|fault| {
            self.faults.push((self.rows.len(), fault));
            (0, 0)
        });
        self.rows.push(Place {
            key_end,
            end: self.bytes.len(),
            version,
            expires_ms,
        });
    }

    fn finish(self, is_exhausted: bool) -> ReadRows {
        let bytes = self.bytes.freeze();
        let mut start = 0;
        let rows = self.rows.into_iter().map(|place| {
            let key = bytes.slice(start..place.key_end);
            let value = bytes.slice(place.key_end..place.end);
            start = place.end;
            let entry = Entry {
                value,
                version: place.version,
                expires_ms: place.expires_ms,
            };
            (key, entry)
        });
        let page = IndexPage {
            rows: rows.collect(),
            faults: self.faults,
            is_exhausted,
        };
        ReadRows {
            page,
            has_chunks: self.has_chunks,
        }
    }
}
