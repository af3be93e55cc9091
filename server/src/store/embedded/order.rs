//! The keys that memory has and the index has not, in order.
//!
//! ```text
//!   writers → fresh keys, unordered → runs, each in order → the fold goes through all, and drops them
//! ```
//!
//! A tree would be in order at any time, and cost a writer of a new key as much as everything else
//! that it does. Here a writer adds to a handful, a full handful becomes a *run*, and runs are merged by
//! the fold's thread, so that who scans has few of them to look at.
//!
//! A key may stand here more than once, and may have been folded meanwhile: whoever looks asks its slot.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::key::Key;

/// Keys of a handful: few, since whoever scans looks at each of them.
const FRESH_KEYS: usize = 256;

/// A run is merged with those behind it once they have together this part of its keys: with more, a
/// key is copied more often; with less, there are more runs.
const MERGE_RATIO: usize = 4;

/// The keys that memory alone has something of.
#[derive(Default)]
pub(super) struct Order {
    state: Mutex<State>,
    /// Held by the one who merges runs.
    merging: Mutex<()>,
}

#[derive(Default)]
struct State {
    fresh: Vec<Key>,
    /// Each in order, the oldest first. Writers add runs; only the fold takes some away.
    runs: Vec<Arc<Vec<Key>>>,
    /// How many of them a pass goes through, which ends with their removal.
    passing: usize,
}

/// All keys at a moment.
pub(super) struct Pass {
    /// In order, each once.
    pub(super) keys: Vec<Key>,
    runs: usize,
}

/// The next key of a run, and what comes behind it.
struct Head<'a> {
    key: &'a Key,
    rest: &'a [Key],
    is_reverse: bool,
}

impl Order {
    /// Adds a key.
    pub(super) fn add(&self, key: Key) {
        let mut state = self.lock();
        state.fresh.push(key);
        if state.fresh.len() >= FRESH_KEYS {
            state.close_fresh();
        }
    }

    /// The first keys within bounds, or the last ones in descending order, each once.
    pub(super) fn keys(
        &self,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        is_reverse: bool,
        limit: usize,
    ) -> Vec<Key> {
        let state = self.lock();
        let is_within = |key: &&Key| is_behind(key, bounds.0) && is_before(key, bounds.1);
        let mut fresh: Vec<Key> = state.fresh.iter().filter(is_within).cloned().collect();
        let runs = state.runs.clone();
        drop(state);
        fresh.sort_unstable();
        let within = runs.iter().map(|run| within(run, bounds));
        let heads = within.chain([&fresh[..]]);
        merge(heads, is_reverse, limit)
    }

    /// Merges small runs, also while a pass is under way, whose own stay as they are. Does nothing where
    /// another thread does it.
    pub(super) fn merge_runs(&self) {
        let Ok(_alone) = self.merging.try_lock() else {
            return;
        };
        let state = self.lock();
        let (runs, passing) = (state.runs.clone(), state.passing);
        drop(state);
        let mut first = runs.len();
        let mut keys = 0;
        for (at, run) in runs.iter().enumerate().skip(passing).rev() {
            if run.len() > keys * MERGE_RATIO && keys > 0 {
                break;
            }
            keys += run.len();
            first = at;
        }
        let small = runs.get(first..).unwrap_or_default();
        if small.len() < 2 {
            return;
        }
        let merged = Arc::new(joined(small));
        self.lock().runs.splice(first..runs.len(), [merged]);
    }

    /// All keys that were added before.
    pub(super) fn pass(&self) -> Pass {
        let mut state = self.lock();
        state.close_fresh();
        let runs = state.runs.clone();
        state.passing = runs.len();
        drop(state);
        Pass {
            keys: joined(&runs),
            runs: runs.len(),
        }
    }

    /// Ends a pass. Of its keys those stay for which `stays` says so. A key that is added while it
    /// decides is a key of a later pass.
    pub(super) fn finish(&self, pass: Pass, stays: impl FnMut(&Key) -> bool) {
        let Pass { mut keys, runs } = pass;
        keys.retain(stays);
        let left = (!keys.is_empty()).then(|| Arc::new(keys));
        let mut state = self.lock();
        state.passing = 0;
        state.runs.splice(..runs, left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close_fresh(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let mut run = std::mem::replace(&mut self.fresh, Vec::with_capacity(FRESH_KEYS));
        run.sort_unstable();
        run.dedup();
        self.runs.push(Arc::new(run));
    }
}

/// The keys of several runs, in order, each once.
fn joined(runs: &[Arc<Vec<Key>>]) -> Vec<Key> {
    let mut keys = Vec::with_capacity(runs.iter().map(|run| run.len()).sum());
    for run in runs {
        keys.extend_from_slice(run);
    }
    // The stable sort merges what is in order already.
    keys.sort();
    keys.dedup();
    keys
}

fn within<'a>(run: &'a [Key], (start, end): (Bound<&[u8]>, Bound<&[u8]>)) -> &'a [Key] {
    let from = run.partition_point(|key| !is_behind(key, start));
    let rest = run.get(from..).unwrap_or_default();
    let until = rest.partition_point(|key| is_before(key, end));
    rest.get(..until).unwrap_or_default()
}

fn is_behind(key: &Key, start: Bound<&[u8]>) -> bool {
    match start {
        Bound::Included(start) => key[..] >= *start,
        Bound::Excluded(start) => key[..] > *start,
        Bound::Unbounded => true,
    }
}

fn is_before(key: &Key, end: Bound<&[u8]>) -> bool {
    match end {
        Bound::Included(end) => key[..] <= *end,
        Bound::Excluded(end) => key[..] < *end,
        Bound::Unbounded => true,
    }
}

fn merge<'a>(runs: impl Iterator<Item = &'a [Key]>, is_reverse: bool, limit: usize) -> Vec<Key> {
    let heads = runs.filter_map(|run| Head::of(run, is_reverse));
    let mut heads: BinaryHeap<Head<'_>> = heads.collect();
    let mut merged: Vec<Key> = Vec::new();
    while merged.len() < limit
        && let Some(mut first) = heads.peek_mut()
    {
        if merged.last() != Some(first.key) {
            merged.push(first.key.clone());
        }
        match Head::of(first.rest, is_reverse) {
            Some(next) => *first = next,
            None => drop(std::collections::binary_heap::PeekMut::pop(first)),
        }
    }
    merged
}

impl<'a> Head<'a> {
    fn of(run: &'a [Key], is_reverse: bool) -> Option<Self> {
        let (key, rest) = match is_reverse {
            true => run.split_last()?,
            false => run.split_first()?,
        };
        Some(Self {
            key,
            rest,
            is_reverse,
        })
    }
}

/// The greatest comes next.
impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.is_reverse {
            true => self.key.cmp(other.key),
            false => other.key.cmp(self.key),
        }
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head<'_> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u16) -> Key {
        Key::from(&number.to_be_bytes()[..])
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u16, u16),
        Merge,
        /// A pass, after which the keys stay that are divisible.
        Pass(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..2000_u16, 1..400_u16).prop_map(|(first, count)| Step::Add(first, count)),
            1 => Just(Step::Merge),
            1 => (1..5_u16).prop_map(Step::Pass),
        ];
        proptest::collection::vec(step, 1..20)
    }

    proptest! {
        #[test]
        fn the_order_holds_what_a_sorted_set_holds(
            steps in steps(),
            start in 0..2400_u16,
            end in 0..2400_u16,
            limit in 1..300_usize,
        ) {
            let (order, mut set) = (Order::default(), BTreeSet::new());
            for step in steps {
                match step {
                    // Not in order, and some of them more than once.
                    Step::Add(first, count) => for number in (first..first + count).rev() {
                        order.add(key(number));
                        set.insert(number);
                    }
                    Step::Merge => order.merge_runs(),
                    Step::Pass(divisor) => {
                        let pass = order.pass();
                        prop_assert!(pass.keys.iter().eq(set.iter().map(|it| key(*it)).collect::<Vec<_>>().iter()));
                        let numbers: BTreeSet<Key> = set.iter().filter(|it| *it % divisor == 0).map(|it| key(*it)).collect();
                        set.retain(|number| number % divisor == 0);
                        order.finish(pass, |key| numbers.contains(key));
                    }
                }
            }
            let (first, last) = (key(start), key(end.max(start)));
            let bounds = (Bound::Excluded(&first[..]), Bound::Included(&last[..]));
            let expected: Vec<Key> = set.iter().map(|it| key(*it)).filter(|key| *key > first && *key <= last).collect();
            let forward: Vec<Key> = expected.iter().take(limit).cloned().collect();
            let backward: Vec<Key> = expected.iter().rev().take(limit).cloned().collect();
            prop_assert_eq!(order.keys(bounds, false, limit), forward);
            prop_assert_eq!(order.keys(bounds, true, limit), backward);
        }
    }

    #[test]
    fn what_is_added_during_a_pass_stays() {
        let order = Order::default();
        order.add(key(1));
        let pass = order.pass();
        order.add(key(1));
        order.add(key(2));
        order.finish(pass, |_| false);
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(order.keys(all, false, 9), [key(1), key(2)]);
    }

    /// While a fold went through millions of keys, nobody merged what was added, and scans met thousands
    /// of runs.
    #[test]
    fn many_keys_make_few_runs_also_during_a_pass() {
        let order = Order::default();
        order.add(key(7));
        let pass = order.pass();
        for number in 0..60_000_u16 {
            order.add(key(number.wrapping_mul(40_503)));
            if number.is_multiple_of(5_000) {
                order.merge_runs();
            }
        }
        order.merge_runs();
        let runs = order.lock().runs.len();
        assert!(runs < 8, "{runs} runs");
        order.finish(pass, |_| false);
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(order.keys(all, false, usize::MAX).len(), 60_000);
    }
}
