//! When requests are due at a fixed rate.

use std::time::{Duration, Instant};

/// The moments at which requests are due.
pub(super) struct Schedule {
    from: Instant,
    interval_ns: f64,
    /// The next request's number.
    pub(super) next: u64,
}

impl Schedule {
    pub(super) fn new(from: Instant, rate: f64) -> Self {
        Self {
            from,
            interval_ns: 1e9 / rate,
            next: 0,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a run is shorter than 500 years, and begins at 0"
    )]
    pub(super) fn due(&self) -> Instant {
        self.from + Duration::from_nanos((self.next as f64 * self.interval_ns) as u64)
    }

    /// The next request, where it is due: which it is, and since when.
    pub(super) fn take(&mut self, now: Instant) -> Option<(u64, Instant)> {
        let due = self.due();
        (due <= now).then(|| {
            self.next += 1;
            (self.next - 1, due)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_keeps_its_rate() {
        let from = Instant::now();
        let mut schedule = Schedule::new(from, 1_000_000.0);
        let now = from + Duration::from_millis(1);
        let mut taken = 0;
        while let Some((number, due)) = schedule.take(now) {
            assert_eq!(due, from + Duration::from_micros(number));
            taken += 1;
        }
        assert_eq!(taken, 1001);
    }
}
