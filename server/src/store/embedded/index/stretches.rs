//! Stretches of the index in memory, for scans: a row that is found here takes a tenth of what it takes in
//! sled's leaves.
//!
//! ```text
//!   keys:       a ───────────── f          k ── m     m ───────── t
//!   stretches:  [rows of a to f)           [k, m)     [rows of m to t)
//!   gaps:                       what only sled knows             …
//! ```
//!
//! A stretch has all rows that the index has between its ends. It never changes: before a fold writes a key,
//! the stretch about it goes, and while a fold is under way none is added, since what was read meanwhile
//! may be from before or after. So whoever finds one here finds what sled would say. What memory knows
//! better overrules it, as it overrules sled.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::bugs::{Bug, is_seeded};
use crate::store::{Entry, KeyRange};

/// What a row costs beside its key and its value.
const ROW_BYTES: usize = size_of::<(Bytes, Entry)>();

/// What a stretch costs beside its rows.
const STRETCH_BYTES: usize = 320;

/// Where there is no room, one of so many is taken in for others that go: scans that go round through more
/// than there is room for find some of it then, and don't pay for keeping what they lose again.
const TAKEN_IN_OF: u32 = 8;

/// Stretches that the search for room looks at, before it gives up.
const MAX_EVICTION_STEPS: usize = 64;

/// Stretches of the index, none of which overlap.
pub(super) struct Stretches {
    state: Mutex<State>,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    /// By the first key of each.
    stretches: BTreeMap<Bytes, Arc<Stretch>>,
    bytes: usize,
    /// Folds that are under way, and those that ever began.
    folding: usize,
    folds: u64,
    /// Where the search for room goes on.
    hand: Bytes,
    /// How often there was no room.
    crowded: u32,
}

/// All rows from `start` on and before `end`.
pub(super) struct Stretch {
    pub(super) start: Bytes,
    pub(super) end: Bytes,
    /// In order.
    pub(super) rows: Vec<(Bytes, Entry)>,
    bytes: usize,
    /// Whether it was looked at since the search for room last passed.
    is_touched: AtomicBool,
}

/// What there is at the end of a range from which a scan goes on.
pub(super) enum Found {
    Stretch(Arc<Stretch>),
    Gap(Gap),
}

/// A range of which nothing is in memory.
pub(super) struct Gap {
    pub(super) range: KeyRange,
    /// The folds that had begun, if what is read may be kept.
    folds: Option<u64>,
}

/// A fold, until it is dropped.
pub(super) struct Folding<'a>(&'a Stretches);

impl Gap {
    /// Whether what is read may be kept.
    pub(super) fn is_wanted(&self) -> bool {
        self.folds.is_some()
    }
}

/// The same rows in memory of their own, which is as large as is counted: a page has room for more than it found.
fn copied(rows: &[(Bytes, Entry)]) -> Vec<(Bytes, Entry)> {
    let length = rows
        .iter()
        .map(|(key, entry)| key.len() + entry.value.len());
    let mut bytes = Vec::with_capacity(length.sum());
    for (key, entry) in rows {
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&entry.value);
    }
    let mut bytes = Bytes::from(bytes);
    let copied = rows.iter().map(|(key, entry)| {
        let key = bytes.split_to(key.len());
        let value = bytes.split_to(entry.value.len());
        (
            key,
            Entry {
                value,
                ..entry.clone()
            },
        )
    });
    copied.collect()
}

impl Stretches {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            max_bytes,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// What there is at the beginning of a range, or at its end for who goes backwards.
    pub(super) fn find(&self, range: &KeyRange, is_reverse: bool) -> Found {
        let mut state = self.lock();
        let stretches = &state.stretches;
        let mut gap = range.clone();
        if is_reverse {
            let before = (Bound::Unbounded, Bound::Excluded(&range.end[..]));
            if let Some((_, stretch)) = stretches.range::<[u8], _>(before).next_back() {
                if stretch.end >= range.end {
                    return stretch.found();
                }
                gap.start = gap.start.max(stretch.end.clone());
            }
        } else {
            let before = (Bound::Unbounded, Bound::Included(&range.start[..]));
            if let Some((_, stretch)) = stretches.range::<[u8], _>(before).next_back()
                && stretch.end > range.start
            {
                return stretch.found();
            }
            let behind = (Bound::Excluded(&range.start[..]), Bound::Unbounded);
            if let Some((start, _)) = stretches.range::<[u8], _>(behind).next() {
                gap.end = gap.end.min(start.clone());
            }
        }
        let folds = state.admits(self.max_bytes).then_some(state.folds);
        Found::Gap(Gap { range: gap, folds })
    }

    /// Keeps the rows that the index has within `covered`, which is a part of the gap, as a scan came
    /// upon them.
    pub(super) fn keep(
        &self,
        gap: &Gap,
        covered: &KeyRange,
        rows: &[(Bytes, Entry)],
        is_reverse: bool,
    ) {
        let lengths = rows
            .iter()
            .map(|(key, entry)| key.len() + entry.value.len());
        let ends = covered.start.len() + covered.end.len();
        let bytes = STRETCH_BYTES + ends + rows.len() * ROW_BYTES + lengths.sum::<usize>();
        if bytes > self.max_bytes / 4 || covered.is_empty() {
            return;
        }
        let mut state = self.lock();
        if gap.folds != Some(state.folds) || state.folding > 0 || state.has_part_of(covered) {
            return;
        }
        state.evict(self.max_bytes.saturating_sub(bytes));
        if state.bytes + bytes > self.max_bytes {
            return;
        }
        state.bytes += bytes;
        let mut rows = copied(rows);
        if is_reverse {
            rows.reverse();
        }
        // Copies, as of the rows, since these may be parts of large pieces of memory.
        let start = Bytes::copy_from_slice(&covered.start);
        let stretch = Stretch {
            start: start.clone(),
            end: Bytes::copy_from_slice(&covered.end),
            rows,
            bytes,
            is_touched: AtomicBool::new(false),
        };
        state.stretches.insert(start, Arc::new(stretch));
    }

    /// Begins a fold of these keys.
    pub(super) fn fold<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Folding<'_> {
        let mut state = self.lock();
        state.folding += 1;
        state.folds += 1;
        if !state.stretches.is_empty() && !is_seeded(Bug::KeepStretches) {
            keys.for_each(|key| state.remove_about(key));
        }
        Folding(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Folding<'_> {
    fn drop(&mut self) {
        self.0.lock().folding -= 1;
    }
}

impl Stretch {
    fn found(self: &Arc<Self>) -> Found {
        self.is_touched.store(true, Ordering::Relaxed);
        Found::Stretch(Arc::clone(self))
    }
}

impl State {
    fn admits(&mut self, max_bytes: usize) -> bool {
        if self.folding > 0 || max_bytes == 0 {
            return false;
        }
        // Near its bound, since a stretch is larger than nothing.
        if self.bytes < max_bytes / 16 * 15 {
            return true;
        }
        self.crowded = self.crowded.wrapping_add(1);
        self.crowded.is_multiple_of(TAKEN_IN_OF)
    }

    fn has_part_of(&self, range: &KeyRange) -> bool {
        let before = (Bound::Unbounded, Bound::Excluded(&range.end[..]));
        let last = self.stretches.range::<[u8], _>(before).next_back();
        last.is_some_and(|(_, stretch)| stretch.end > range.start)
    }

    fn remove_about(&mut self, key: &[u8]) {
        let before = (Bound::Unbounded, Bound::Included(key));
        let Some((start, stretch)) = self.stretches.range::<[u8], _>(before).next_back() else {
            return;
        };
        if stretch.end[..] > *key {
            let start = start.clone();
            self.remove(&start);
        }
    }

    fn remove(&mut self, start: &Bytes) {
        let removed = self.stretches.remove(start);
        self.bytes -= removed.map_or(0, |stretch| stretch.bytes);
    }

    /// Lets go of what was not looked at lately, until there are so many bytes at the most.
    fn evict(&mut self, max_bytes: usize) {
        for _ in 0..MAX_EVICTION_STEPS {
            if self.bytes <= max_bytes {
                return;
            }
            let from = match &self.hand[..] {
                [] => Bound::Unbounded,
                hand => Bound::Excluded(hand),
            };
            let mut behind = self.stretches.range::<[u8], _>((from, Bound::Unbounded));
            let Some((start, stretch)) = behind.next() else {
                self.hand = Bytes::new();
                continue;
            };
            self.hand = start.clone();
            if !stretch.is_touched.swap(false, Ordering::Relaxed) {
                let start = self.hand.clone();
                self.remove(&start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange {
            start: Bytes::from(start),
            end: Bytes::from(end),
        }
    }

    fn row(key: &'static str) -> (Bytes, Entry) {
        let entry = Entry {
            value: Bytes::from_static(b"value"),
            version: 1,
            expires_ms: 0,
        };
        (Bytes::from(key), entry)
    }

    /// What is found at the beginning of a range: the end of a stretch, or a gap.
    fn found(stretches: &Stretches, of: KeyRange, is_reverse: bool) -> Result<Bytes, KeyRange> {
        match stretches.find(&of, is_reverse) {
            Found::Stretch(stretch) => Ok(stretch.end.clone()),
            Found::Gap(gap) => Err(gap.range),
        }
    }

    fn keep(stretches: &Stretches, covered: &KeyRange, rows: &[(Bytes, Entry)]) {
        if let Found::Gap(gap) = stretches.find(covered, false) {
            stretches.keep(&gap, covered, rows, false);
        }
    }

    /// Scans of empty ranges with ends of many MiB were kept for the price of their rows, which they had none of;
    /// and rows held the whole page that they were found in.
    #[test]
    fn what_is_kept_is_counted_with_its_ends_and_holds_no_more_than_that() {
        let stretches = Stretches::new(1 << 20);
        for number in 0..100_u8 {
            let ends = |last| Bytes::from([vec![number; 100_000], vec![last]].concat());
            let covered = KeyRange {
                start: ends(0),
                end: ends(1),
            };
            keep(&stretches, &covered, &[]);
        }
        let state = stretches.lock();
        let held: usize = state
            .stretches
            .values()
            .map(|it| it.start.len() + it.end.len())
            .sum();
        assert!(
            held <= state.bytes && state.bytes <= 1 << 20,
            "{held} of {}",
            state.bytes
        );
        drop(state);
        let page = Bytes::from(vec![b'k'; 1 << 16]);
        let (_, entry) = row("k");
        let rows = copied(&[(page.slice(..3), entry)]);
        let (key, entry) = &rows[0];
        assert_eq!((&key[..], &entry.value[..]), (&b"kkk"[..], &b"value"[..]));
        assert!(!page.as_ptr_range().contains(&key.as_ptr()));
    }

    #[test]
    fn a_gap_reaches_to_the_next_stretch_in_either_direction() {
        let stretches = Stretches::new(1 << 20);
        keep(&stretches, &range("d", "f"), &[row("d"), row("e")]);
        keep(&stretches, &range("k", "m"), &[]);
        assert_eq!(
            found(&stretches, range("a", "z"), false),
            Err(range("a", "d"))
        );
        assert_eq!(
            found(&stretches, range("a", "b"), false),
            Err(range("a", "b"))
        );
        assert_eq!(found(&stretches, range("e", "z"), false), Ok("f".into()));
        assert_eq!(
            found(&stretches, range("f", "z"), false),
            Err(range("f", "k"))
        );
        assert_eq!(
            found(&stretches, range("a", "z"), true),
            Err(range("m", "z"))
        );
        assert_eq!(found(&stretches, range("a", "m"), true), Ok("m".into()));
        assert_eq!(
            found(&stretches, range("a", "k"), true),
            Err(range("f", "k"))
        );
        assert_eq!(
            found(&stretches, range("e", "k"), true),
            Err(range("f", "k"))
        );
        assert_eq!(found(&stretches, range("a", "e"), true), Ok("f".into()));
        assert_eq!(
            found(&stretches, range("a", "d"), true),
            Err(range("a", "d"))
        );
    }

    #[test]
    fn a_fold_takes_away_what_it_writes_into_and_keeps_out_what_was_read_before_it_ended() {
        let stretches = Stretches::new(1 << 20);
        keep(&stretches, &range("a", "c"), &[row("a")]);
        keep(&stretches, &range("c", "e"), &[row("d")]);
        let early = stretches.find(&range("e", "g"), false);
        let folding = stretches.fold([&b"c"[..], b"x"].into_iter());
        assert_eq!(found(&stretches, range("b", "z"), false), Ok("c".into()));
        assert_eq!(
            found(&stretches, range("c", "z"), false),
            Err(range("c", "z"))
        );
        let meanwhile = stretches.find(&range("e", "g"), false);
        drop(folding);
        for gap in [early, meanwhile] {
            let Found::Gap(gap) = gap else { panic!() };
            stretches.keep(&gap, &range("e", "g"), &[], false);
        }
        assert_eq!(
            found(&stretches, range("c", "z"), false),
            Err(range("c", "z"))
        );
        keep(&stretches, &range("e", "g"), &[]);
        assert_eq!(found(&stretches, range("e", "z"), false), Ok("g".into()));
    }

    #[test]
    fn its_bytes_stay_within_the_bound_and_come_back() {
        let stretches = Stretches::new(4 << 10);
        let keys: Vec<Bytes> = (0..500_u32).map(|it| format!("{it:05}").into()).collect();
        for pair in keys.windows(2) {
            let covered = KeyRange {
                start: pair[0].clone(),
                end: pair[1].clone(),
            };
            keep(&stretches, &covered, &[row("any")]);
            assert!(stretches.bytes() <= 4 << 10);
        }
        assert!(stretches.bytes() > 2 << 10);
        drop(stretches.fold(keys.iter().map(|key| &key[..])));
        assert_eq!(stretches.bytes(), 0);
    }

    #[test]
    fn what_another_reader_has_kept_meanwhile_is_not_kept_twice() {
        let stretches = Stretches::new(1 << 20);
        let Found::Gap(gap) = stretches.find(&range("a", "z"), false) else {
            panic!()
        };
        keep(&stretches, &range("c", "e"), &[]);
        stretches.keep(&gap, &range("a", "d"), &[], false);
        assert_eq!(
            found(&stretches, range("a", "z"), false),
            Err(range("a", "c"))
        );
    }
}
