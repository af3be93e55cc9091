//! The meter: how much cpu time a call has used, and whether it may go on.
//!
//! The clock of a thread's cpu time is a system call, and most calls are over before the first tick.
//! So the meter reads the wall clock, which costs little and can only count too much, and asks the
//! cpu clock once a call has met a tick: a thread that had to wait for a processor has not used it.
//!
//! ```text
//!   begin ──────── tick, suspended ······ resumed ───────── tick, suspended ······ resumed ──── end
//!   at most FIRST_SEGMENT counts          cpu clock, read on both ends of each segment
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use luge_protocol::ErrorCode;
use rustix::time::{ClockId, clock_gettime};

use crate::function::{Budget, Running, Stop, Usage};

/// The most that counts of the time before a call's first suspension, where the cpu clock was not
/// read: a tick has 1 ms, and the longest single operation of a guest a few.
const FIRST_SEGMENT: Duration = Duration::from_millis(5);

/// The ticks after which a call gives way.
const TICKS: u32 = 1;

/// And those of one that all commits wait for: it holds up only who is served by the same thread, and is over sooner.
const TICKS_ALONE: u32 = 5;

/// What stands for a cpu clock that was not read.
const UNREAD: u64 = u64::MAX;

/// Measures one call. The call and its suspensions share it.
pub(super) struct Meter {
    begun: Instant,
    running: Arc<Running>,
    fuel: u64,
    deadline: Instant,
    cpu: Duration,
    /// The limit that the message names: `cpu` may be less, where a phase's time is running out.
    cpu_limit: Duration,
    /// How many more times it looks before it gives way.
    looks: AtomicU32,
    ticks: u32,
    /// What the segments before this one have used, in nanoseconds.
    used_ns: AtomicU64,
    /// What of that was read off the wall.
    wall_ns: AtomicU64,
    /// When this segment began, in nanoseconds since `begun`.
    segment_ns: AtomicU64,
    /// The thread's cpu clock then, in nanoseconds.
    segment_cpu_ns: AtomicU64,
}

impl Meter {
    pub(super) fn start(budget: &Budget, running: &Arc<Running>) -> Arc<Self> {
        Arc::new(Self::of(budget, running))
    }

    /// Starts anew for another call, in the same place where nobody else has the old one any more.
    pub(super) fn restart(this: &mut Arc<Self>, budget: &Budget, running: &Arc<Running>) {
        match Arc::get_mut(this) {
            Some(meter) => *meter = Self::of(budget, running),
            None => *this = Self::start(budget, running),
        }
    }

    fn of(budget: &Budget, running: &Arc<Running>) -> Self {
        let cpu = budget.cpu.min(budget.limits.cpu);
        let running = Arc::clone(running);
        let fuel = budget.limits.fuel;
        let times = (budget.begun.unwrap_or_else(now), budget.deadline);
        let ticks = if budget.is_alone { TICKS_ALONE } else { TICKS };
        Self {
            ticks,
            looks: AtomicU32::new(ticks),
            ..Self::new(times, cpu, budget.limits.cpu, fuel, running)
        }
    }

    /// A meter with no time on it.
    pub(super) fn idle() -> Arc<Self> {
        let none = Duration::ZERO;
        let now = now();
        Arc::new(Self::new((now, now), none, none, 0, Arc::default()))
    }

    fn new(
        (begun, deadline): (Instant, Instant),
        cpu: Duration,
        cpu_limit: Duration,
        fuel: u64,
        running: Arc<Running>,
    ) -> Self {
        Self {
            begun,
            running,
            fuel,
            deadline,
            cpu,
            cpu_limit,
            looks: AtomicU32::new(TICKS),
            ticks: TICKS,
            used_ns: AtomicU64::new(0),
            wall_ns: AtomicU64::new(0),
            segment_ns: AtomicU64::new(0),
            segment_cpu_ns: AtomicU64::new(UNREAD),
        }
    }

    /// The cpu time used so far.
    pub(super) fn used(&self) -> Duration {
        self.before() + self.segment(now())
    }

    /// What of it was measured by the cpu clock, so that no waiting for a processor is in it.
    pub(super) fn measured(&self) -> Duration {
        if self.segment_cpu_ns.load(Ordering::Relaxed) == UNREAD {
            return Duration::ZERO;
        }
        let wall = Duration::from_nanos(self.wall_ns.load(Ordering::Relaxed));
        self.used().saturating_sub(wall)
    }

    /// Tells who looks at the call what it has used.
    pub(super) fn note(&self, usage: &Usage) {
        self.running.note(usage);
    }

    /// What the call has used, by the fuel that is left.
    pub(super) fn usage(&self, fuel_left: u64, memory_bytes: usize) -> Usage {
        Usage {
            fuel: self.fuel.saturating_sub(fuel_left),
            cpu: self.used(),
            memory_bytes,
        }
    }

    /// Whether the call goes on at once after it has looked: behind each suspension, and before the next is due.
    pub(super) fn goes_on(&self) -> bool {
        let left = self.looks.load(Ordering::Relaxed).checked_sub(1);
        self.looks
            .store(left.unwrap_or(self.ticks), Ordering::Relaxed);
        left.is_none_or(|left| left > 0)
    }

    /// Refuses to go on where a limit is reached, or the call is killed.
    pub(super) fn check(&self) -> Result<(), Stop> {
        if self.running.is_killed() {
            let message = "it was killed while the function was running".to_owned();
            return Err(Stop::Failed(ErrorCode::Killed, message));
        }
        let now = now();
        if now >= self.deadline {
            let message = "the deadline passed while the function was running (`deadline_ms` of its push or call)".to_owned();
            return Err(Stop::Failed(ErrorCode::DeadlineExceeded, message));
        }
        self.look_at_a_long_segment(now);
        let is_certainly_below = self.before() + self.segment_wall(now) < self.cpu;
        if is_certainly_below || self.before() + self.segment(now) < self.cpu {
            return Ok(());
        }
        let message = if self.cpu < self.cpu_limit {
            format!(
                "the hooks of this phase used up their cpu time (`phase_cpu_ms` of the server); {:?} were left",
                self.cpu
            )
        } else {
            format!(
                "the function used up its cpu time of {:?} (`cpu_ms` of its push or call)",
                self.cpu
            )
        };
        Err(Stop::Failed(ErrorCode::CpuExhausted, message))
    }

    fn before(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Ordering::Relaxed))
    }

    /// The cpu time of the segment under way.
    fn segment(&self, now: Instant) -> Duration {
        match self.segment_cpu_ns.load(Ordering::Relaxed) {
            UNREAD => self.segment_wall(now).min(FIRST_SEGMENT),
            began => Duration::from_nanos(thread_cpu_ns().saturating_sub(began)),
        }
    }

    fn segment_wall(&self, now: Instant) -> Duration {
        let began = Duration::from_nanos(self.segment_ns.load(Ordering::Relaxed));
        now.duration_since(self.begun).saturating_sub(began)
    }

    /// A first segment that goes on, as within one host function, is counted by the cpu clock from here
    /// on.
    fn look_at_a_long_segment(&self, now: Instant) {
        let is_unread = self.segment_cpu_ns.load(Ordering::Relaxed) == UNREAD;
        if is_unread && self.segment_wall(now) >= FIRST_SEGMENT {
            self.end_segment();
            self.begin_segment();
        }
    }

    fn end_segment(&self) {
        let used = nanos(self.segment(now()));
        self.used_ns.fetch_add(used, Ordering::Relaxed);
        if self.segment_cpu_ns.load(Ordering::Relaxed) == UNREAD {
            self.wall_ns.fetch_add(used, Ordering::Relaxed);
        }
    }

    /// Begins a segment, on whichever thread the call goes on.
    fn begin_segment(&self) {
        self.segment_ns
            .store(nanos(now().duration_since(self.begun)), Ordering::Relaxed);
        self.segment_cpu_ns
            .store(thread_cpu_ns(), Ordering::Relaxed);
    }
}

/// Whether the time has passed in which a call may begin.
pub(super) fn has_passed(deadline: Instant) -> bool {
    now() >= deadline
}

/// A suspension: gives way once, and does not count as time used.
///
/// Whoever is served by the same thread comes first, also what has arrived at its connections: were the call woken at
/// once, the thread would take it up again before it looks at them, several ticks in a row.
pub(super) async fn give_way(meter: Arc<Meter>) {
    meter.end_segment();
    tokio::task::yield_now().await;
    meter.begin_segment();
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(UNREAD - 1)
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a budget of time is measured where it is spent"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop keeps its fuel in a register, where no tick sees it, so it was known as long only after 6 ms.
    #[test]
    fn what_a_call_uses_behind_its_first_suspension_is_measured_and_the_wait_before_it_is_not() {
        let limit = Duration::from_secs(60);
        let long_ago = now().checked_sub(Duration::from_secs(1)).unwrap();
        let times = (long_ago, now() + limit);
        let meter = Meter::new(times, limit, limit, 0, Arc::default());
        assert_eq!(meter.measured(), Duration::ZERO);
        assert_eq!(meter.used(), FIRST_SEGMENT);
        meter.end_segment();
        meter.begin_segment();
        let begun = thread_cpu_ns();
        while thread_cpu_ns() - begun < 1_000_000 {}
        let measured = meter.measured();
        assert!(measured >= Duration::from_millis(1), "{measured:?}");
        assert!(meter.used() - measured >= FIRST_SEGMENT);
        assert!(measured < Duration::from_millis(900), "{measured:?}");
    }

    /// A long scan within one host function was counted as 5 ms, however long it took.
    #[test]
    fn a_call_gives_way_at_each_tick_and_one_that_all_wait_for_at_every_fifth() {
        let looks = |ticks| {
            let meter = Meter {
                ticks,
                looks: AtomicU32::new(ticks),
                ..Arc::into_inner(Meter::idle()).unwrap()
            };
            let goes_on = |_| if meter.goes_on() { 'g' } else { 'w' };
            (0..12).map(goes_on).collect::<String>()
        };
        assert_eq!(looks(TICKS), "wgwgwgwgwgwg");
        assert_eq!(looks(TICKS_ALONE), "ggggwgggggwg");
    }

    #[test]
    fn a_host_function_that_goes_on_and_on_uses_the_time_up_without_a_suspension() {
        let limit = Duration::from_millis(20);
        let begun = now();
        let meter = Meter::new(
            (begun, begun + Duration::from_secs(5)),
            limit,
            limit,
            0,
            Arc::default(),
        );
        let stop = loop {
            if let Err(stop) = meter.check() {
                break stop;
            }
        };
        assert!(
            matches!(stop, Stop::Failed(ErrorCode::CpuExhausted, _)),
            "{stop:?}"
        );
    }
}
