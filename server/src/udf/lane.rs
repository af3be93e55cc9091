//! The lane of calls that run long: threads of their own, behind those that serve requests.
//!
//! ```text
//!   a module's call used more than LONG_CALL ──▶ goes on in the lane, a slice of a tick at a time,
//!   or somebody killed it                        and its module's next calls begin there
//!   calls in the lane that used less, in a row ──▶ its next calls run where their requests are served again
//! ```
//!
//! A call that is short costs nothing of this. In the lane the operating system gives a call what others
//! leave, and among the calls there each module has the same share (`queue.rs`): a module that loops on
//! every connection that it can get holds up neither plain commands nor, by more than a turn, other modules.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::job::{Job, Left};
use super::meter::now;
use super::queue::{ModuleNumber, Queue};
use crate::function::{Running, Turnstile, Usage};

/// A call that has used more cpu time than this is long: half a tick, so that most of those that loop are
/// found out at their first.
const LONG_CALL: Duration = Duration::from_micros(500);

/// And has used more fuel than this, half of what a loop uses in that time, or is known to have used that time: until
/// its first tick a call's time is read off the wall, and one that had to wait for a processor is not long. A read or a
/// write of a key has a price of 1,000 fuel, so with a tenth of it calls of a hundred keys were long that had waited half
/// a millisecond. A loop without calls keeps its fuel in a register, where a tick does not see it: its second tick finds
/// it out.
const LONG_CALL_FUEL: u64 = 500_000;

/// A call that has used so much time is long by whatever means: the wall no longer counts.
const CERTAINLY_LONG: Duration = Duration::from_millis(6);

/// So many calls in a row that are not long, and a module leaves the lane.
const SHORT_CALLS: u32 = 64;

/// How far behind other threads those of the lane are: as far as can be, a sixtieth of the processor where
/// both want all of it.
const NICENESS: i32 = 19;

/// The threads, by the queue that they serve.
pub(super) struct Lane {
    queue: Arc<Queue>,
    /// Where those pass that come back at their deadlines.
    late: Turnstile,
}

/// Why a call was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// Somebody killed it.
    Killed,
    /// It failed in a fault of our own.
    Lost,
}

/// How a module's calls ran lately.
pub(super) struct Pace {
    module: ModuleNumber,
    /// How many more calls run in the lane.
    long: AtomicU32,
}

impl Pace {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            module: NEXT.fetch_add(1, Ordering::Relaxed),
            long: AtomicU32::new(0),
        }
    }

    /// Whether the next call is to run in the lane.
    pub(super) fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed) > 0
    }

    /// Takes note of what a call has used so far, while it runs, and of what of its time was measured: by the time that
    /// it ends, many more of its module could have begun where requests are served.
    pub(super) fn look(&self, used: &Usage, measured: Duration) {
        if is_long(used) || measured >= LONG_CALL {
            self.found_long();
        }
    }

    fn found_long(&self) {
        self.long.store(SHORT_CALLS, Ordering::Relaxed);
    }

    /// Takes note of what a call used that has ended.
    pub(super) fn note(&self, used: &Usage) {
        self.look(used, Duration::ZERO);
        if !is_long(used) && self.is_long() {
            let less = |long: u32| long.checked_sub(1);
            let order = Ordering::Relaxed;
            // Where it is 0 by now, another call has taken the module out of the lane.
            let _ = self.long.fetch_update(order, order, less);
        }
    }
}

impl Lane {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system gives none.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        // It ends those that have begun where another can't.
        let lane = Self {
            queue: Arc::clone(&queue),
            late: Turnstile::default(),
        };
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name("luge-lane".to_owned());
            thread.spawn(move || {
                step_back();
                queue.serve();
            })?;
        }
        Ok(lane)
    }

    /// Runs a call in the lane, or where its request is served until its module is found to be long. Behind its deadline it
    /// comes back from the lane, where it would wait for its turn to be ended, and ends where it next looks.
    ///
    /// # Errors
    /// It was given up.
    pub(super) async fn run_if_long<F>(
        &self,
        pace: &Pace,
        running: &Running,
        (mut is_long, deadline): (bool, Instant),
        mut work: Pin<Box<F>>,
    ) -> Result<F::Output, GivenUp>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let here = poll_fn(|context| {
            if is_long || running.is_killed() {
                return Poll::Ready(None);
            }
            let polled = work.as_mut().poll(context);
            is_long = pace.is_long();
            match polled {
                Poll::Pending if is_long || running.is_killed() => Poll::Ready(None),
                polled => polled.map(Some),
            }
        });
        let ended = match here.await {
            Some(ended) => Ok(ended),
            None if running.is_killed() => Err(GivenUp::Killed),
            // It takes few calls, and its future would make that of all others larger.
            None => Box::pin(self.run(pace, running, deadline, work)).await,
        };
        // Who kills a call has found it too long.
        if running.is_killed() {
            pace.found_long();
        }
        ended
    }

    async fn run<F>(
        &self,
        pace: &Pace,
        running: &Running,
        deadline: Instant,
        work: Pin<Box<F>>,
    ) -> Result<F::Output, GivenUp>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let (waiting, mut done) = Job::start(&self.queue, pace.module, work);
        // While it waits for its turn, no tick reaches it.
        let left = tokio::select! {
            biased;
            done = &mut done => Some(done),
            () = running.killed() => return Err(GivenUp::Killed),
            () = tokio::time::sleep_until(deadline.into()) => None,
        };
        let left = match left {
            Some(left) => left,
            None => match waiting.take_back() {
                Some(work) => Ok(Left::Work(work)),
                None => tokio::select! {
                    biased;
                    done = done => done,
                    () = running.killed() => return Err(GivenUp::Killed),
                },
            },
        };
        match left {
            Ok(Left::Output(ended)) => Ok(ended),
            Ok(Left::Work(work)) => tokio::select! {
                biased;
                () = running.killed() => Err(GivenUp::Killed),
                ended = self.late.pass(now(), work) => Ok(ended),
            },
            Err(_) => Err(GivenUp::Lost),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.end();
    }
}

fn is_long(used: &Usage) -> bool {
    let is_busy = used.fuel >= LONG_CALL_FUEL || used.cpu >= CERTAINLY_LONG;
    used.cpu >= LONG_CALL && is_busy
}

/// Puts a thread behind those that serve requests. Where the system does not allow it, it is one of them.
fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "a thread of the lane can't be put behind others");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        now() + Duration::from_secs(60)
    }

    fn thread() -> String {
        let thread = std::thread::current();
        thread.name().unwrap_or_default().to_owned()
    }

    /// The first calls of a module that loops stayed where requests are served for as long as their budget lasted.
    #[tokio::test]
    async fn a_call_that_is_found_long_goes_on_in_the_lane() {
        let lane = Lane::start(1).unwrap();
        let pace = Arc::new(Pace::new());
        let found = Arc::clone(&pace);
        let work = Box::pin(async move {
            let before = thread();
            found.found_long();
            tokio::task::yield_now().await;
            (before, thread())
        });
        let running = Running::default();
        let ended = lane.run_if_long(&pace, &running, (false, soon()), work);
        let (before, after) = ended.await.unwrap();
        assert_ne!(before, "luge-lane");
        assert_eq!(after, "luge-lane");
    }

    #[tokio::test]
    async fn a_call_that_is_killed_ends_before_its_next_slice_and_its_module_goes_on_in_the_lane() {
        let lane = Lane::start(1).unwrap();
        let (pace, running) = (Pace::new(), Arc::new(Running::default()));
        let killed = Arc::clone(&running);
        let work = Box::pin(async move {
            killed.kill();
            tokio::task::yield_now().await;
            unreachable!("it was killed")
        });
        let ended = lane.run_if_long(&pace, &running, (false, soon()), work);
        let ended: Result<(), _> = ended.await;
        assert_eq!(ended, Err(GivenUp::Killed));
        assert!(pace.is_long());
    }

    /// Each thread of the lane had a turn of its own, so nobody ever waited for one, and a module had as much of the
    /// lane as it had calls there.
    #[tokio::test]
    async fn a_module_with_many_long_calls_has_no_more_of_the_lane_than_one_with_a_single_call() {
        const SLICES: u64 = 100;
        let lane = Lane::start(1).unwrap();
        let (many, one) = (Pace::new(), Pace::new());
        let slices = Arc::new(AtomicU64::new(0));
        let running = Running::default();
        let crowd: Vec<_> = (0..32)
            .map(|_| {
                let slices = Arc::clone(&slices);
                let work = Box::pin(async move {
                    loop {
                        slices.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                });
                Job::start(&lane.queue, many.module, work)
            })
            .collect();
        let counted = Arc::clone(&slices);
        let work = Box::pin(async move {
            let before = counted.load(Ordering::Relaxed);
            for _ in 0..SLICES {
                tokio::task::yield_now().await;
            }
            counted.load(Ordering::Relaxed) - before
        });
        let ended = lane.run_if_long(&one, &running, (true, soon()), work);
        assert_eq!(ended.await, Ok(SLICES));
        drop(crowd);
    }

    /// A call that waited for its turn in the lane was told of its deadline only by the tick of its next slice there.
    /// Later it was given up there, and its transaction with it.
    #[tokio::test]
    async fn a_call_that_waits_in_the_lane_comes_back_at_its_deadline() {
        // Nobody serves it.
        let lane = Lane::start(0).unwrap();
        let (pace, running) = (Pace::new(), Running::default());
        let work = Box::pin(async { thread() });
        let ended = lane.run_if_long(&pace, &running, (true, now()), work);
        assert_ne!(ended.await.unwrap(), "luge-lane");
    }
}
