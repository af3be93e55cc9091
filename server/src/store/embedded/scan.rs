//! Scans: what memory knows and what the index has, as one page.

use bytes::{Bytes, BytesMut};

use super::index::{IndexPage, Search};
use super::shared::Shared;
use super::versions::Known;
use crate::store::{
    Entry, KeyRange, Page, PageLimit, RowGlimpse, Sequence, StoreError, Visited, successor,
};

impl Shared {
    /// Rows that a snapshot sees. Memory is looked at before the index, for the reason that the head of
    /// this module's parent tells.
    pub(super) fn page(
        &self,
        range: &KeyRange,
        search: Search,
        snapshot: Sequence,
    ) -> Result<Page, StoreError> {
        let looked_at = self.look_at_memory(range, search, snapshot);
        self.join(range, search, looked_at)
    }

    /// Shows the same rows where they lie, until one is refused. Mostly memory has nothing that the index has not.
    pub(super) fn visit(
        &self,
        range: &KeyRange,
        search: Search,
        snapshot: Sequence,
        take: &mut impl FnMut(RowGlimpse<'_>) -> bool,
    ) -> Result<Visited, StoreError> {
        let looked_at = self.look_at_memory(range, search, snapshot);
        if !looked_at.known.is_empty() {
            let page = self.join(range, search, looked_at)?;
            return Ok(page.visit(take));
        }
        let range = looked_at.narrowed(range, search);
        Ok(match self.index.visit(&range, search, take)? {
            Visited::Through(last) => Visited::Through(looked_at.reached(range, search, last)),
            Visited::Refused => Visited::Refused,
        })
    }

    /// Joins what memory knows with what the index has.
    fn join(
        &self,
        range: &KeyRange,
        search: Search,
        looked_at: LookedAt,
    ) -> Result<Page, StoreError> {
        let range = looked_at.narrowed(range, search);
        let IndexPage {
            rows,
            faults,
            is_exhausted,
        } = self.index.page(&range, search)?;
        let last = rows.last().filter(|_| !is_exhausted);
        let last = last.map(|(last, _)| last.clone());
        let reached = looked_at.reached(range, search, last);
        let known = looked_at.known;
        let rows = merge(rows, faults, known, reached.as_ref(), search.is_reverse)?;
        let mut page = Page { rows, reached };
        cut(&mut page, search.limit);
        Ok(page)
    }

    /// Looks at what memory alone may have, until there is enough for a page.
    fn look_at_memory(&self, range: &KeyRange, search: Search, snapshot: Sequence) -> LookedAt {
        let Search {
            is_reverse, limit, ..
        } = search;
        // To ask for more keys than a page has room for would be most of the work. With rows that are
        // shorter the page has fewer of them.
        const ROW_BYTES: usize = 48;
        let rows = limit.rows.min(limit.bytes / ROW_BYTES + 16).max(1);
        let (keys, mut is_all) = self.versions.unfolded_keys(range, is_reverse, rows);
        let lengths = keys.iter().map(|key| key.len());
        let mut places = BytesMut::with_capacity(lengths.sum());
        let mut known = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        let mut last = Bytes::new();
        for (at, key) in keys.iter().enumerate() {
            if at > 0 && bytes >= limit.bytes {
                is_all = false;
                break;
            }
            places.extend_from_slice(key);
            last = places.split().freeze();
            if let Known::Seen(entry) = self.versions.get(key, snapshot) {
                bytes += key.len() + entry.as_ref().map_or(0, |entry| entry.value.len());
                known.push((last.clone(), entry));
            }
        }
        let end = (!is_all).then_some(last);
        LookedAt { known, end }
    }
}

/// What memory knows at one end of a range, in the scan's order.
struct LookedAt {
    known: Vec<(Bytes, Option<Entry>)>,
    /// The last key that was looked at, where there may be more behind it.
    end: Option<Bytes>,
}

impl LookedAt {
    /// The part of the range that was looked at: a page speaks for what both have been asked for.
    fn narrowed(&self, range: &KeyRange, search: Search) -> KeyRange {
        let mut range = range.clone();
        match &self.end {
            Some(last) if search.is_reverse => range.start = last.clone(),
            Some(last) => range.end = successor(last),
            None => {}
        }
        range
    }

    /// The last key that a page speaks for, where the index was asked for the narrowed range, and where it has not come
    /// to its end, for what it told up to `last`.
    fn reached(&self, range: KeyRange, search: Search, last: Option<Bytes>) -> Option<Bytes> {
        match last {
            Some(last) => Some(last),
            None if self.end.is_none() => None,
            None if search.is_reverse => Some(range.start),
            None => known_end(&range),
        }
    }
}

/// Lets go of rows beyond the limit: the index has kept to it, and memory may have added to it.
fn cut(page: &mut Page, limit: PageLimit) {
    let mut bytes = 0;
    let mut is_within = |(key, entry): &(Bytes, Entry)| {
        bytes += key.len() + entry.value.len();
        bytes <= limit.bytes
    };
    let within = page.rows.iter().take_while(|row| is_within(row)).count();
    let kept = within.clamp(1, limit.rows.max(1));
    if kept < page.rows.len() {
        page.rows.truncate(kept);
        page.reached = page.rows.last().map(|(key, _)| key.clone());
    }
}

/// The key whose successor ends the range.
fn known_end(range: &KeyRange) -> Option<Bytes> {
    let last = range.end.len().checked_sub(1)?;
    Some(range.end.slice(..last))
}

/// Joins two ordered rows of keys; what memory knows overrules the index, and what is wrong with a row
/// that it overrules does not matter.
fn merge(
    rows: Vec<(Bytes, Entry)>,
    faults: Vec<(usize, StoreError)>,
    known: Vec<(Bytes, Option<Entry>)>,
    reached: Option<&Bytes>,
    is_reverse: bool,
) -> Result<Vec<(Bytes, Entry)>, StoreError> {
    for (at, fault) in faults {
        let key = rows.get(at).map(|(key, _)| key);
        if !known.iter().any(|(known, _)| Some(known) == key) {
            return Err(fault);
        }
    }
    if known.is_empty() {
        return Ok(rows);
    }
    let is_before = |left: &Bytes, right: &Bytes| {
        if is_reverse {
            left > right
        } else {
            left < right
        }
    };
    let is_within = |key: &Bytes| reached.is_none_or(|reached| !is_before(reached, key));
    let mut merged = Vec::with_capacity(rows.len() + known.len());
    let mut known = known
        .into_iter()
        .take_while(|(key, _)| is_within(key))
        .peekable();
    for (key, entry) in rows {
        while let Some((known_key, known_entry)) = known.next_if(|it| is_before(&it.0, &key)) {
            merged.extend(known_entry.map(|entry| (known_key, entry)));
        }
        match known.next_if(|it| it.0 == key) {
            Some((_, known_entry)) => merged.extend(known_entry.map(|entry| (key, entry))),
            None => merged.push((key, entry)),
        }
    }
    merged.extend(known.filter_map(|(key, entry)| Some((key, entry?))));
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::super::disk::RealDisk;
    use super::super::{EmbeddedOptions, EmbeddedSnapshot, EmbeddedStore};
    use super::*;
    use crate::store::{Clock, Commit, Millis, ReadPoint, Snapshot, Store, Write};

    struct StoppedClock;

    impl Clock for StoppedClock {
        fn now_ms(&self) -> Millis {
            1_000_000
        }
    }

    async fn put(store: &EmbeddedStore, key: &'static [u8], length: usize) {
        let put = Write::Put {
            value: vec![7; length].into(),
            expires_ms: 0,
        };
        let commit = Commit {
            writes: [(Bytes::from_static(key), put)].into(),
            ..Commit::default()
        };
        let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
        store.commit(snapshot, commit).await.unwrap();
    }

    async fn visit(snapshot: &EmbeddedSnapshot) -> Result<Visited, StoreError> {
        let range = KeyRange {
            start: Bytes::from_static(b"a"),
            end: Bytes::from_static(b"b"),
        };
        let limit = PageLimit {
            rows: 10,
            bytes: 1 << 20,
        };
        snapshot.visit(&range, false, false, limit, |_| true).await
    }

    /// A visit took a value in pieces, which a snapshot that is given up may meet while a fold is at work, for a fault of
    /// the index: the next start made all of it anew.
    #[tokio::test]
    async fn a_value_in_pieces_is_a_fault_of_the_index_only_where_the_snapshot_may_still_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions {
            cache_bytes: 0,
            min_free_bytes: 0,
            ..EmbeddedOptions::default()
        };
        let (disk, clock) = (Arc::new(RealDisk), Box::new(StoppedClock));
        let store = EmbeddedStore::open(folder.path(), [1; 16], disk, clock, options).unwrap();
        put(&store, b"a", 10_000).await;
        store.folded().await.unwrap();
        let given_up = store.begin(ReadPoint::Newest).await.unwrap();
        put(&store, b"z", 1).await;
        store.acked(store.visible()).await.unwrap();
        store.shared.index.lose_a_chunk(b"a");
        store.shared.snapshots.tick(0, true);
        let is_doubtful = || store.shared.is_index_doubtful.load(Ordering::Acquire);
        let told = visit(&given_up).await;
        assert!(matches!(told, Err(StoreError::TooOld { .. })), "{told:?}");
        assert!(!is_doubtful());
        let newest = store.begin(ReadPoint::Newest).await.unwrap();
        let told = visit(&newest).await;
        assert!(matches!(told, Err(StoreError::Storage(_))), "{told:?}");
        assert!(is_doubtful());
    }
}
