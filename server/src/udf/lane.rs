//! The lane of calls that run long: threads of their own, behind those that serve requests.
//!
//! ```text
//!   a module's call used more than LONG_CALL ──▶ goes on in the lane, a slice of a tick at a time,
//!   or somebody killed it                        and its module's next calls begin there
//!   calls in the lane that used less, in a row ──▶ its next calls run where their requests are served again
//! ```
//!
//! A call that is short costs nothing of this. In the lane the operating system gives a call what others
//! leave, and among the calls there each module has the same share (`turns.rs`): a module that loops on
//! every connection that it can get holds up neither plain commands nor, by more than a turn, other modules.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::turns::{Asked, ModuleNumber, Turn, Turns};
use crate::function::{Running, Usage};

/// A call that has used more cpu time than this is long: half a tick, so that most of those that loop are
/// found out at their first.
const LONG_CALL: Duration = Duration::from_micros(500);

/// And has used more fuel than this, a tenth of what a loop uses in that time: until its first tick a call's
/// time is read off the wall, and one that had to wait for a processor is not long.
const LONG_CALL_FUEL: u64 = 100_000;

/// A call that has used so much time is long by whatever means: the wall no longer counts.
const CERTAINLY_LONG: Duration = Duration::from_millis(6);

/// So many calls in a row that are not long, and a module leaves the lane.
const SHORT_CALLS: u32 = 64;

/// How far behind other threads those of the lane are: as far as can be, a sixtieth of the processor where
/// both want all of it.
const NICENESS: i32 = 19;

/// The threads, and the turns in them.
pub(super) struct Lane {
    /// Gone only while it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
    turns: Arc<Turns>,
}

/// How a module's calls ran lately.
pub(super) struct Pace {
    module: ModuleNumber,
    /// How many more calls run in the lane.
    long: AtomicU32,
}

/// A call in the lane, which takes a turn for each of its slices.
struct Paced<F> {
    work: Pin<Box<F>>,
    module: ModuleNumber,
    turns: Arc<Turns>,
    waiting: Option<oneshot::Receiver<Turn>>,
}

/// Ends the call where nobody waits for it any more.
struct Bound<T>(JoinHandle<T>);

impl<T> Drop for Bound<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
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

    /// Takes note of what a call has used so far, while it runs: by the time that it ends, many more of its
    /// module could have begun where requests are served.
    pub(super) fn look(&self, used: &Usage) {
        if is_long(used) {
            self.found_long();
        }
    }

    fn found_long(&self) {
        self.long.store(SHORT_CALLS, Ordering::Relaxed);
    }

    /// Takes note of what a call used that has ended.
    pub(super) fn note(&self, used: &Usage) {
        self.look(used);
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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("luge-lane")
            .on_thread_start(step_back)
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            turns: Turns::new(threads),
        })
    }

    /// Runs a call where its request is served, and in the lane from when its module is found to be long; `None`
    /// where it is killed there, or failed in a fault of our own.
    pub(super) async fn run_if_long<F>(
        &self,
        pace: &Pace,
        running: &Running,
        mut work: Pin<Box<F>>,
    ) -> Option<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let here = poll_fn(|context| match pace.is_long() {
            true => Poll::Ready(None),
            false => match work.as_mut().poll(context) {
                Poll::Pending if pace.is_long() => Poll::Ready(None),
                other => other.map(Some),
            },
        });
        let ended = match here.await {
            Some(ended) => Some(ended),
            None => self.run(pace, running, work).await,
        };
        // Who kills a call has found it too long.
        if running.is_killed() {
            pace.found_long();
        }
        ended
    }

    async fn run<F>(&self, pace: &Pace, running: &Running, work: Pin<Box<F>>) -> Option<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let paced = Paced {
            work,
            module: pace.module,
            turns: Arc::clone(&self.turns),
            waiting: None,
        };
        let runtime = self.runtime.as_ref()?;
        let mut done = Bound(runtime.spawn(paced));
        tokio::select! {
            biased;
            done = &mut done.0 => done.ok(),
            // It may wait for a turn, where no tick reaches it.
            () = running.killed() => None,
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime may be dropped where waiting for threads is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _turn = loop {
            match &mut this.waiting {
                None => match this.turns.ask(this.module) {
                    Asked::Now(turn) => break turn,
                    Asked::Later(turn) => this.waiting = Some(turn),
                },
                Some(waiting) => {
                    let Poll::Ready(turn) = Pin::new(waiting).poll(context) else {
                        return Poll::Pending;
                    };
                    this.waiting = None;
                    if let Ok(turn) = turn {
                        break turn;
                    }
                }
            }
        };
        this.work.as_mut().poll(context)
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

    /// The first calls of a module that loops stayed where requests are served for as long as their budget lasted.
    #[tokio::test]
    async fn a_call_that_is_found_long_goes_on_in_the_lane() {
        let lane = Lane::start(1).unwrap();
        let pace = Arc::new(Pace::new());
        let found = Arc::clone(&pace);
        let thread = || std::thread::current().name().unwrap_or_default().to_owned();
        let work = Box::pin(async move {
            let before = thread();
            found.found_long();
            tokio::task::yield_now().await;
            (before, thread())
        });
        let running = Running::default();
        let (before, after) = lane.run_if_long(&pace, &running, work).await.unwrap();
        assert_ne!(before, "luge-lane");
        assert_eq!(after, "luge-lane");
    }

    #[tokio::test]
    async fn a_module_of_which_a_call_was_killed_begins_in_the_lane() {
        let lane = Lane::start(1).unwrap();
        let (pace, running) = (Pace::new(), Running::default());
        running.kill();
        let ended = lane.run_if_long(&pace, &running, Box::pin(async { 7 }));
        assert_eq!(ended.await, Some(7));
        assert!(pace.is_long());
    }
}
