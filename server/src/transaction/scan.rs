//! Scans within a transaction: rows of the snapshot, merged with the transaction's own writes.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{Keyspace, Live, Transaction, TransactionError, is_live, own, remaining};
use crate::bugs::{Bug, is_seeded};
use crate::store::{Entry, KeyRange, Millis, PageLimit, Snapshot, Visited, successor};

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanOrder {
    /// From the first key on.
    Ascending,
    /// From the last key back.
    Descending,
}

/// A scan under way. It can be put aside and gone on with; writes made in between show.
#[derive(Clone, Debug)]
pub struct Scan {
    /// What is still to come, in the store's keys.
    rest: KeyRange,
    order: ScanOrder,
    keys_only: bool,
    /// The last key that the scan has passed, in the store's keys.
    passed: Option<Bytes>,
}

/// A live row: a key, the user's own unless it is said otherwise, and what lies under it.
pub type Row = (Bytes, Live);

impl Scan {
    /// A scan of `[start, end)`; an empty `end` reaches to the last key.
    #[must_use]
    pub fn new(start: &[u8], end: &[u8], order: ScanOrder, keys_only: bool) -> Self {
        Self::of(Keyspace::Data, start, end, order, keys_only)
    }

    /// A scan of one part of the store.
    #[must_use]
    pub fn of(
        keyspace: Keyspace,
        start: &[u8],
        end: &[u8],
        order: ScanOrder,
        keys_only: bool,
    ) -> Self {
        Self {
            rest: keyspace.range(start, end),
            order,
            keys_only,
            passed: None,
        }
    }

    /// Whether every row has been given out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes everything up to and with `key` as given out.
    pub fn skip_to(&mut self, key: &[u8]) {
        let key = Keyspace::Data.key(key);
        if self.rest.contains(&key) {
            self.advance(&key);
        } else if self.order == ScanOrder::Ascending && key >= self.rest.end {
            self.rest.start = self.rest.end.clone();
        } else if self.order == ScanOrder::Descending && key < self.rest.start {
            self.rest.end = self.rest.start.clone();
        }
    }

    /// The last key that the scan has passed, given out or not: where a later one can go on.
    #[must_use]
    pub fn passed(&self) -> Option<Bytes> {
        self.passed.as_ref().map(Keyspace::strip)
    }

    fn advance(&mut self, last: &Bytes) {
        self.passed = Some(last.clone());
        match self.order {
            ScanOrder::Ascending => self.rest.start = successor(last),
            ScanOrder::Descending => self.rest.end = last.clone(),
        }
    }
}

impl<S: Snapshot> Transaction<S> {
    /// The next rows of a scan, at most `limit`. No rows do not mean its end, which [`Scan::is_done`]
    /// tells: a stretch of expired or deleted keys is given back as an empty step, so that whoever
    /// scans can look at the clock in between.
    ///
    /// # Errors
    /// The store failed.
    pub async fn scan(
        &mut self,
        scan: &mut Scan,
        limit: PageLimit,
    ) -> Result<Vec<Row>, TransactionError> {
        let rows = self.stored_rows(scan, limit).await?;
        Ok(rows
            .into_iter()
            .map(|(key, live)| (Keyspace::stripped(key), live))
            .collect())
    }

    /// The same rows, under the store's keys.
    async fn stored_rows(
        &mut self,
        scan: &mut Scan,
        limit: PageLimit,
    ) -> Result<Vec<Row>, TransactionError> {
        if scan.is_done() {
            return Ok(Vec::new());
        }
        self.check_reads()?;
        let is_reverse = scan.order == ScanOrder::Descending;
        let page = self
            .snapshot
            .scan(&scan.rest, is_reverse, scan.keys_only, limit)
            .await?;
        let covered = covered(scan, page.reached.as_ref());
        let mut rows = self.merge(page.rows, &covered, scan.order);
        if scan.keys_only {
            // A store need not leave values out, and own writes have theirs.
            for (_, live) in &mut rows {
                live.value = Bytes::new();
            }
        }
        let is_cut = cut(&mut rows, limit);
        match rows.last() {
            Some((last, _)) if is_cut => {
                let last = last.clone();
                self.reads.ranges.push(part_to(scan, &last));
                scan.advance(&last);
            }
            _ => {
                let last = rows.last().map(|(last, _)| last.clone());
                self.cover(scan, covered, page.reached, last);
            }
        }
        join_ranges(&mut self.reads.ranges);
        Ok(rows)
    }

    /// Shows the next rows of a scan, as key and value where they lie, until `take` refuses one, which comes next then.
    /// Keys alone have empty values. As of [`Transaction::scan`], no rows do not mean the end.
    ///
    /// # Errors
    /// The store failed. What was taken of rows before is of no worth then.
    pub async fn visit(
        &mut self,
        scan: &mut Scan,
        limit: PageLimit,
        mut take: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Result<(), TransactionError> {
        if scan.is_done() {
            return Ok(());
        }
        if self.has_written_in(&scan.rest) {
            return self.visit_merged(scan, limit, take).await;
        }
        self.check_reads()?;
        let now_ms = self.now_ms();
        let is_reverse = scan.order == ScanOrder::Descending;
        let (mut last, mut refused) = (Vec::new(), Vec::new());
        let mut live_until_ms = Millis::MAX;
        let visited = self
            .snapshot
            .visit(&scan.rest, is_reverse, scan.keys_only, limit, |row| {
                if !is_live(row.expires_ms, now_ms) {
                    return true;
                }
                if row.expires_ms != 0 {
                    live_until_ms = live_until_ms.min(row.expires_ms);
                }
                let key = row.key.get(1..).unwrap_or_default();
                let value = if scan.keys_only { &[][..] } else { row.value };
                let is_taken = take(key, value);
                let place = if is_taken { &mut last } else { &mut refused };
                place.clear();
                place.extend_from_slice(row.key);
                is_taken
            });
        let visited = visited.await?;
        if live_until_ms != Millis::MAX {
            self.record_expiry(live_until_ms);
        }
        let last = (!last.is_empty()).then(|| Bytes::from(last));
        match (visited, last) {
            // What was refused is known all the same: at least how large it is.
            (Visited::Refused, last) => {
                self.reads.ranges.push(part_to(scan, &refused.into()));
                if let Some(last) = last {
                    scan.advance(&last);
                }
            }
            (Visited::Through(reached), last) => {
                let covered = covered(scan, reached.as_ref());
                self.cover(scan, covered, reached, last);
            }
        }
        join_ranges(&mut self.reads.ranges);
        Ok(())
    }

    /// Takes all that was `covered`, up to `reached`, as given out and read, `last` being the last row among it.
    fn cover(
        &mut self,
        scan: &mut Scan,
        covered: KeyRange,
        reached: Option<Bytes>,
        last: Option<Bytes>,
    ) {
        let found = last.filter(|_| is_seeded(Bug::RangeToLastRow));
        let found = found.map(|last| part_to(scan, &last));
        cut_off(&mut scan.rest, &covered, scan.order);
        scan.passed = reached;
        match is_seeded(Bug::RangeToLastRow) {
            true => self.reads.ranges.extend(found),
            false => self.reads.ranges.push(covered),
        }
    }

    /// As of [`Transaction::visit`], where own writes may be among the rows.
    async fn visit_merged(
        &mut self,
        scan: &mut Scan,
        limit: PageLimit,
        mut take: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Result<(), TransactionError> {
        let mut ahead = scan.clone();
        let rows = self.stored_rows(&mut ahead, limit).await?;
        let is_taken = |(key, live): &&Row| take(key.get(1..).unwrap_or_default(), &live.value);
        let taken = rows.iter().take_while(is_taken).count();
        if taken == rows.len() {
            *scan = ahead;
        } else if let Some((last, _)) = taken.checked_sub(1).and_then(|at| rows.get(at)) {
            scan.advance(last);
        }
        Ok(())
    }

    fn has_written_in(&self, range: &KeyRange) -> bool {
        let bounds = (Bound::Included(&range.start), Bound::Excluded(&range.end));
        let mut written = self.writes.range::<Bytes, _>(bounds);
        written.next().is_some() && !is_seeded(Bug::ScanWithoutOwnWrites)
    }

    /// The snapshot's rows and own writes within `covered`, in the scan's order; `None` is deleted.
    fn merge(
        &mut self,
        rows: Vec<(Bytes, Entry)>,
        covered: &KeyRange,
        order: ScanOrder,
    ) -> Vec<(Bytes, Live)> {
        let now_ms = self.now_ms();
        let bounds = (
            Bound::Included(&covered.start),
            Bound::Excluded(&covered.end),
        );
        let own_writes: BTreeMap<Bytes, Option<Live>> =
            match covered.is_empty() || is_seeded(Bug::ScanWithoutOwnWrites) {
                true => BTreeMap::new(),
                false => self
                    .writes
                    .range::<Bytes, _>(bounds)
                    .map(|(key, write)| (key.clone(), own(write, now_ms)))
                    .collect(),
            };
        let mut live: Vec<(Bytes, Live)> = Vec::with_capacity(rows.len() + own_writes.len());
        for (key, entry) in rows {
            if !own_writes.contains_key(&key) && is_live(entry.expires_ms, now_ms) {
                self.record_expiry(entry.expires_ms);
                live.push((key, of_entry(entry, now_ms)));
            }
        }
        if !own_writes.is_empty() {
            live.extend(
                own_writes
                    .into_iter()
                    .filter_map(|(key, live)| Some((key, live?))),
            );
            live.sort_unstable_by(|left, right| match order {
                ScanOrder::Ascending => left.0.cmp(&right.0),
                ScanOrder::Descending => right.0.cmp(&left.0),
            });
        }
        live
    }
}

/// Cuts rows off beyond the limit; answers whether there were any.
fn cut(rows: &mut Vec<Row>, limit: PageLimit) -> bool {
    let mut bytes = 0;
    let beyond = rows.iter().enumerate().position(|(at, (key, live))| {
        bytes += key.len() + live.value.len();
        at > 0 && (at >= limit.rows || bytes > limit.bytes)
    });
    rows.truncate(beyond.unwrap_or(rows.len()));
    beyond.is_some()
}

fn of_entry(entry: Entry, now_ms: u64) -> Live {
    Live {
        value: entry.value,
        version: Some(entry.version),
        ttl_ms: remaining(entry.expires_ms, now_ms),
    }
}

/// What a store has told of what is to come, where it has reached a key, or else all of it.
fn covered(scan: &Scan, reached: Option<&Bytes>) -> KeyRange {
    match reached {
        Some(reached) => part_to(scan, reached),
        None => scan.rest.clone(),
    }
}

/// The part of what is to come that ends with the row `last`.
fn part_to(scan: &Scan, last: &Bytes) -> KeyRange {
    match scan.order {
        ScanOrder::Ascending => KeyRange {
            start: scan.rest.start.clone(),
            end: successor(last),
        },
        ScanOrder::Descending => KeyRange {
            start: last.clone(),
            end: scan.rest.end.clone(),
        },
    }
}

fn cut_off(rest: &mut KeyRange, covered: &KeyRange, order: ScanOrder) {
    match order {
        ScanOrder::Ascending => rest.start = covered.end.clone(),
        ScanOrder::Descending => rest.end = covered.start.clone(),
    }
}

/// Joins the last range to the one before where they touch or overlap, as the pages of one scan do.
fn join_ranges(ranges: &mut Vec<KeyRange>) {
    while let [.., before, last] = ranges.as_mut_slice() {
        if before.end < last.start || last.end < before.start {
            return;
        }
        if last.start < before.start {
            before.start = last.start.clone();
        }
        if last.end > before.end {
            before.end = last.end.clone();
        }
        ranges.pop();
    }
}
