//! Which key a request names.

use crate::random::Random;

/// How keys are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Each as often as every other.
    Uniform,
    /// A few very often, as YCSB has it, with a constant of 0.99; which ones, is scattered over all keys.
    Zipfian,
}

/// YCSB's constant.
const THETA: f64 = 0.99;

/// Draws are made ahead, since a draw of Zipf's takes two powers of floating point: as many as repeat after seconds.
const DRAWS_AHEAD: usize = 1 << 20;

/// Scatters ranks over keys; a prime, so that it has no factor in common with a number of keys below it.
const SCATTER: u64 = 2_654_435_761;

/// The keys of a run, by number.
pub struct Keys {
    /// Keys below this are there from the beginning, and are drawn.
    count: u64,
    /// The next key that is inserted.
    next: u64,
    random: Random,
    /// Ranks, where they are not uniform.
    ranks: Vec<u32>,
    at: usize,
}

impl Keys {
    /// Keys from 0 to below `count`, which is at least 2.
    #[must_use]
    pub fn new(count: u64, distribution: Distribution, seed: u64) -> Self {
        let count = count.max(2);
        let mut random = Random::new(seed);
        let ranks = match distribution {
            Distribution::Uniform => Vec::new(),
            Distribution::Zipfian => {
                let zipfian = Zipfian::new(count);
                let draw = |_| u32::try_from(zipfian.rank(unit(&mut random))).unwrap_or(u32::MAX);
                (0..DRAWS_AHEAD).map(draw).collect()
            }
        };
        Self {
            count,
            next: count,
            random,
            ranks,
            at: 0,
        }
    }

    /// A key that is there.
    pub fn draw(&mut self) -> u64 {
        match self.rank() {
            // A multiplication and a shift, where a remainder would be a division.
            None => self.uniform(),
            Some(rank) => rank * SCATTER % self.count,
        }
    }

    /// A key that is there and is not this one.
    pub fn another(&mut self, than: u64) -> u64 {
        let key = self.draw();
        if key == than {
            (key + 1) % self.count
        } else {
            key
        }
    }

    /// A key that is not there yet.
    pub fn insert(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// One of the keys that were inserted last, the newest most often.
    pub fn latest(&mut self) -> u64 {
        let rank = self.rank().unwrap_or(0);
        (self.next - 1).saturating_sub(rank)
    }

    fn uniform(&mut self) -> u64 {
        ((self.random.bits() >> 32) * self.count) >> 32
    }

    fn rank(&mut self) -> Option<u64> {
        let rank = *self.ranks.get(self.at)?;
        self.at = (self.at + 1) % DRAWS_AHEAD;
        Some(u64::from(rank))
    }
}

fn unit(random: &mut Random) -> f64 {
    (random.bits() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Zipf's distribution over ranks, in the way of Gray and others ("Quickly generating billion-record synthetic
/// databases", 1994), which YCSB takes.
struct Zipfian {
    count: u64,
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    fn new(count: u64) -> Self {
        let zeta = zeta(count);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - zeta_of_two() / zeta);
        Self { count, zeta, eta }
    }

    /// The rank that belongs to a number from 0 to below 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between 0 and the number of keys"
    )]
    fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < zeta_of_two() {
            return 1;
        }
        let power = (self.eta * unit - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        ((self.count as f64 * power) as u64).min(self.count - 1)
    }
}

fn zeta(count: u64) -> f64 {
    (1..=count).map(|rank| (rank as f64).powf(-THETA)).sum()
}

fn zeta_of_two() -> f64 {
    1.0 + 0.5_f64.powf(THETA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_draws_reach_every_key_about_as_often() {
        let mut keys = Keys::new(10, Distribution::Uniform, 1);
        let mut seen = [0_u32; 10];
        for _ in 0..100_000 {
            seen[usize::try_from(keys.draw()).unwrap()] += 1;
        }
        assert!(
            seen.iter().all(|it| (9_500..10_500).contains(it)),
            "{seen:?}"
        );
    }

    #[test]
    fn zipfian_ranks_fall_off_as_their_power_says() {
        let zipfian = Zipfian::new(1000);
        let mut random = Random::new(7);
        let mut seen = vec![0_f64; 1000];
        let draws = 1_000_000;
        for _ in 0..draws {
            seen[usize::try_from(zipfian.rank(unit(&mut random))).unwrap()] += 1.0;
        }
        let first = f64::from(draws) / zeta(1000);
        assert!((seen[0] / first - 1.0).abs() < 0.02, "{} {first}", seen[0]);
        let second = first * 0.5_f64.powf(THETA);
        assert!(
            (seen[1] / second - 1.0).abs() < 0.02,
            "{} {second}",
            seen[1]
        );
        // The method is exact for the first two ranks, and close for all others together.
        let half: f64 = seen[..31].iter().sum::<f64>() / f64::from(draws);
        let expected = zeta(31) / zeta(1000);
        assert!((half - expected).abs() < 0.03, "{half} {expected}");
    }

    #[test]
    fn scattered_keys_stay_in_range_and_differ() {
        let mut keys = Keys::new(1000, Distribution::Zipfian, 1);
        for _ in 0..10_000 {
            let key = keys.draw();
            assert!(key < 1000);
            assert_ne!(keys.another(key), key);
        }
        let scattered: std::collections::HashSet<u64> =
            (0..1000_u64).map(|rank| rank * SCATTER % 1000).collect();
        assert_eq!(scattered.len(), 1000);
    }

    #[test]
    fn the_latest_key_is_the_newest_most_often() {
        let mut keys = Keys::new(1000, Distribution::Zipfian, 1);
        assert_eq!((keys.insert(), keys.insert()), (1000, 1001));
        let newest = (0..10_000).filter(|_| keys.latest() == 1001).count();
        assert!((1_000..2_000).contains(&newest), "{newest}");
    }
}
