//! The meter: how long a call has been running, and whether it may go on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use luge_protocol::ErrorCode;

use crate::function::{Budget, Stop};

/// Measures one call. The call and its suspensions share it.
pub(super) struct Meter {
    begun: Instant,
    deadline: Instant,
    cpu: Duration,
    /// The limit that the message names: `cpu` may be less, where a phase's time is running out.
    cpu_limit: Duration,
    /// Nanoseconds of suspension so far.
    suspended_ns: AtomicU64,
}

impl Meter {
    pub(super) fn start(budget: &Budget) -> Arc<Self> {
        Arc::new(Self {
            begun: now(),
            deadline: budget.deadline,
            cpu: budget.cpu.min(budget.limits.cpu),
            cpu_limit: budget.limits.cpu,
            suspended_ns: AtomicU64::new(0),
        })
    }

    /// A meter with no time on it.
    pub(super) fn idle() -> Arc<Self> {
        Arc::new(Self {
            begun: now(),
            deadline: now(),
            cpu: Duration::ZERO,
            cpu_limit: Duration::ZERO,
            suspended_ns: AtomicU64::new(0),
        })
    }

    /// The time running so far.
    pub(super) fn used(&self) -> Duration {
        self.used_at(now())
    }

    /// Refuses to go on where a limit is reached.
    pub(super) fn check(&self) -> Result<(), Stop> {
        let now = now();
        if now >= self.deadline {
            let message = "the deadline passed while the function was running".to_owned();
            return Err(Stop::Failed(ErrorCode::DeadlineExceeded, message));
        }
        if self.used_at(now) < self.cpu {
            return Ok(());
        }
        let message = if self.cpu < self.cpu_limit {
            format!(
                "the hooks of this phase used up their cpu time; {:?} were left",
                self.cpu
            )
        } else {
            format!("the function used up its cpu time of {:?}", self.cpu)
        };
        Err(Stop::Failed(ErrorCode::CpuExhausted, message))
    }

    fn used_at(&self, now: Instant) -> Duration {
        let suspended = Duration::from_nanos(self.suspended_ns.load(Ordering::Relaxed));
        now.duration_since(self.begun).saturating_sub(suspended)
    }
}

/// A suspension: gives way once, and does not count as time running.
pub(super) struct GiveWay {
    meter: Arc<Meter>,
    since: Option<Instant>,
}

impl GiveWay {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Self { meter, since: None }
    }
}

impl Future for GiveWay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(since) = self.since else {
            self.since = Some(now());
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let nanos = u64::try_from(now().duration_since(since).as_nanos()).unwrap_or(u64::MAX);
        self.meter.suspended_ns.fetch_add(nanos, Ordering::Relaxed);
        Poll::Ready(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a budget of time is measured where it is spent"
)]
fn now() -> Instant {
    Instant::now()
}
