//! Histograms of a fixed size, which threads add to without a lock and, where there are not many more of
//! them than [`SHARDS`], without a cache line in common.
//!
//! ```text
//!   values    0 … 31 … 63 … 95 … 127 | 128 … 159 … 191 … 223 … 255 | 256 … 319 … … 511 | …      2^38
//!   buckets   └─ 4 of the width 32 ─┘ └── 4 of the width 32 ──────┘ └─ 4 of 64 ───────┘ 4 to each power of 2
//! ```
//!
//! A quantile is told as the middle of its bucket, which is right to an eighth of the value, and below 128 to 16; the maximum
//! and the total exactly. No quantile lies beyond the least and the greatest value, so that equal values have theirs. A crate's
//! histogram would be a lock, or a dozen times the memory: each function has two of these.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Buckets to each power of two.
const STEPS: usize = 4;

/// Below `2^FIRST_POWER` all buckets have the same width.
const FIRST_POWER: u32 = 7;

/// Values from `2^LAST_POWER` on are in the last bucket: 4.5 minutes in nanoseconds, and more fuel than any
/// call has.
const LAST_POWER: u32 = 38;

const BUCKETS: usize = STEPS * (1 + (LAST_POWER - FIRST_POWER) as usize);

/// How many threads may add at once without meeting each other.
const SHARDS: usize = 4;

/// Counts of values by their magnitude.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    total: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            total: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts a value.
    pub fn add(&self, value: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.total.fetch_add(value, Ordering::Relaxed);
        // Written only where they move: others read them at each value.
        if value < self.min.load(Ordering::Relaxed) {
            self.min.fetch_min(value, Ordering::Relaxed);
        }
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
    }
}

/// What histograms held at one moment, put together.
#[derive(Clone, Debug)]
pub struct Distribution {
    buckets: [u64; BUCKETS],
    /// The sum of all values.
    pub total: u64,
    /// The least value; where there are none, the greatest that there could be.
    min: u64,
    /// The largest value.
    pub max: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            total: 0,
            min: u64::MAX,
            max: 0,
        }
    }
}

impl Distribution {
    /// Adds what a histogram holds.
    pub fn join(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        self.total = self
            .total
            .saturating_add(histogram.total.load(Ordering::Relaxed));
        self.min = self.min.min(histogram.min.load(Ordering::Relaxed));
        self.max = self.max.max(histogram.max.load(Ordering::Relaxed));
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The value that `percent` of all do not exceed, to an eighth of it, and below 128 to 16; 0 where there are none.
    pub fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.count() * percent).div_ceil(100);
        let mut below = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            below += count;
            if *count > 0 && below >= rank {
                let middle = lower_bound(at).midpoint(lower_bound(at + 1));
                // What is counted meanwhile may have its bucket and not yet its maximum.
                return middle.max(self.min).min(self.max);
            }
        }
        0
    }

    /// How many values there are below each of these powers of two, which are not beyond the last bucket.
    pub fn below(&self, powers: impl IntoIterator<Item = u32>) -> Vec<(u64, u64)> {
        let bounds = powers.into_iter().map(|power| 1 << power);
        let count = |bound| {
            let buckets = self.buckets.iter().enumerate();
            let below = buckets.filter(|(at, _)| at + 1 < BUCKETS && lower_bound(at + 1) <= bound);
            below.map(|(_, count)| count).sum()
        };
        bounds.map(|bound| (bound, count(bound))).collect()
    }
}

fn bucket_of(value: u64) -> usize {
    let steps = STEPS as u64;
    let bucket = match value.checked_ilog2() {
        Some(power) if power >= FIRST_POWER => {
            let step = (value >> (power - STEPS.ilog2())) % steps;
            steps + u64::from(power - FIRST_POWER) * steps + step
        }
        _ => value >> (FIRST_POWER - STEPS.ilog2()),
    };
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The least value of a bucket, or for the one behind the last, the end of all.
fn lower_bound(bucket: usize) -> u64 {
    let (power, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    match power.checked_sub(1) {
        None => step << (FIRST_POWER - STEPS.ilog2()),
        Some(power) => (STEPS as u64 + step) << (power + (FIRST_POWER - STEPS.ilog2()) as usize),
    }
}

/// One `T` for each group of threads, made when one of them first asks for it.
#[derive(Debug)]
pub struct Sharded<T>([OnceLock<Box<T>>; SHARDS]);

impl<T> Default for Sharded<T> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; SHARDS])
    }
}

impl<T: Default> Sharded<T> {
    /// That of this thread.
    pub fn own(&self) -> &T {
        let shard = self.0.get(shard()).unwrap_or(&self.0[0]);
        shard.get_or_init(Box::default)
    }

    /// Those that there are.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0
            .iter()
            .filter_map(OnceLock::get)
            .map(|shard| &**shard)
    }
}

/// Threads are given the shards in turn.
fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Distribution {
        let histogram = Histogram::default();
        for value in values {
            histogram.add(value);
        }
        let mut distribution = Distribution::default();
        distribution.join(&histogram);
        distribution
    }

    #[test]
    fn every_value_lies_between_the_bounds_of_its_bucket() {
        let near = |power: u32| [(1_u64 << power) - 1, 1 << power, (1 << power) + 1];
        for value in (0..1_000).chain((7..LAST_POWER).flat_map(near)) {
            let bucket = bucket_of(value);
            assert!(lower_bound(bucket) <= value, "{value}");
            assert!(value < lower_bound(bucket + 1), "{value}");
        }
        assert_eq!(lower_bound(BUCKETS), 1 << LAST_POWER);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_right_to_an_eighth_and_the_maximum_exactly() {
        let distribution = of(1..=10_000);
        for (percent, expected) in [(50, 5_000), (99, 9_900), (100, 10_000)] {
            let found = distribution.percentile(percent);
            assert!(
                found.abs_diff(expected) <= expected / 8,
                "{percent}: {found}"
            );
        }
        assert_eq!(distribution.count(), 10_000);
        assert_eq!((distribution.max, distribution.total), (10_000, 50_005_000));
        assert_eq!(of([]).percentile(99), 0);
    }

    /// Two calls of 5.00 s had a median of 4.64 s, and four of one unit of fuel one of 0.
    #[test]
    fn percentiles_of_equal_and_of_small_values_are_exact() {
        for value in [0, 1, 2, 31, 127, 128, 700_000, 5_000_000_000, u64::MAX] {
            for percent in [1, 50, 99, 100] {
                assert_eq!(of([value; 3]).percentile(percent), value);
            }
        }
        assert_eq!(of([1, 2, 2, 3]).percentile(50), 3, "all in one bucket");
    }

    #[test]
    fn a_bucket_with_many_values_at_its_beginning_is_right_to_an_eighth() {
        let values = std::iter::repeat_n(1_024, 99).chain([1_279]);
        let found = of(values).percentile(99);
        assert!(found.abs_diff(1_024) <= 1_024 / 8, "{found}");
    }

    #[test]
    fn counts_below_powers_of_two_are_exact() {
        let distribution = of([0, 127, 128, 1_023, 1_024, u64::MAX]);
        let below = distribution.below([7, 10, 11, LAST_POWER - 1]);
        assert_eq!(
            below,
            [
                (128, 2),
                (1 << 10, 4),
                (1 << 11, 5),
                (1 << (LAST_POWER - 1), 5)
            ]
        );
    }
}
