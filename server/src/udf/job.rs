//! A call in the lane: polled a slice at a time by the lane's threads, and given up by whoever waits for it.
//!
//! ```text
//!            pushed                 popped                     ready
//!   (start) ───────▶ Queued ──────────────────▶ Running ────────────────▶ Gone
//!                      ▲   ◀── pending, Woken ──┘  │ pending                ▲
//!                      └───────────── woken ───── Idle ─────────── given up ──┘
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::queue::{ModuleNumber, Queue, Slice};

/// A call in the lane.
pub(super) struct Job<F: Future> {
    module: ModuleNumber,
    queue: Arc<Queue>,
    /// The runtime of who waits for it: what the call leaves to threads of its own goes there.
    runtime: Option<Handle>,
    state: Mutex<State<F>>,
}

struct State<F: Future> {
    phase: Phase,
    /// Gone while it runs, and once it is over.
    work: Option<Pin<Box<F>>>,
    done: Option<oneshot::Sender<F::Output>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits to be woken.
    Idle,
    /// It stands in the queue.
    Queued,
    Running,
    /// It was woken while it runs.
    Woken,
    /// It is over, or nobody waits for it.
    Gone,
}

/// Whoever waits for a job. Dropping it gives the job up: at once where it does not run, and else with its slice.
#[must_use = "a job that nobody waits for is given up"]
pub(super) struct Waiting<F: Future> {
    job: Arc<Job<F>>,
}

impl<F> Job<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    /// Puts a call into the queue; what it ends with comes by the receiver, or nothing if it panicked.
    pub(super) fn start(
        queue: &Arc<Queue>,
        module: ModuleNumber,
        work: Pin<Box<F>>,
    ) -> (Waiting<F>, oneshot::Receiver<F::Output>) {
        let (done, receiver) = oneshot::channel();
        let state = State {
            phase: Phase::Queued,
            work: Some(work),
            done: Some(done),
        };
        let job = Arc::new(Self {
            module,
            queue: Arc::clone(queue),
            runtime: Handle::try_current().ok(),
            state: Mutex::new(state),
        });
        let slice = Arc::clone(&job);
        queue.push(module, slice);
        (Waiting { job }, receiver)
    }

    fn poll(self: &Arc<Self>, work: &mut Pin<Box<F>>) -> Option<Poll<F::Output>> {
        let waker = Waker::from(Arc::clone(self));
        let _runtime = self.runtime.as_ref().map(Handle::enter);
        let polled = || work.as_mut().poll(&mut Context::from_waker(&waker));
        // A fault of ours ends the call alone. The panic itself is told by the process's hook.
        catch_unwind(AssertUnwindSafe(polled)).ok()
    }

    /// Puts a call back that has more to do; gives it back where nobody waits for it.
    fn put_back(self: &Arc<Self>, work: Pin<Box<F>>) -> Option<Pin<Box<F>>> {
        let mut state = self.lock();
        let next = match state.phase {
            Phase::Gone => return Some(work),
            Phase::Woken => Phase::Queued,
            Phase::Idle | Phase::Queued | Phase::Running => Phase::Idle,
        };
        state.work = Some(work);
        state.phase = next;
        drop(state);
        if next == Phase::Queued {
            let slice = Arc::clone(self);
            self.queue.push(self.module, slice);
        }
        None
    }
}

impl<F: Future> Job<F> {
    fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Slice for Job<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn run(self: Arc<Self>) {
        let mut state = self.lock();
        let work = match state.phase {
            Phase::Queued => state.work.take(),
            _ => None,
        };
        let Some(mut work) = work else { return };
        state.phase = Phase::Running;
        drop(state);
        let ended = match self.poll(&mut work) {
            Some(Poll::Pending) => return drop(self.put_back(work)),
            Some(Poll::Ready(ended)) => Some(ended),
            None => None,
        };
        drop(work);
        let mut state = self.lock();
        state.phase = Phase::Gone;
        let done = state.done.take();
        drop(state);
        if let (Some(done), Some(ended)) = (done, ended) {
            // Nobody may wait for it any more.
            drop(done.send(ended));
        }
    }
}

impl<F> Wake for Job<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn wake(self: Arc<Self>) {
        let mut state = self.lock();
        match state.phase {
            Phase::Idle => state.phase = Phase::Queued,
            Phase::Running => {
                state.phase = Phase::Woken;
                return;
            }
            Phase::Queued | Phase::Woken | Phase::Gone => return,
        }
        drop(state);
        let (queue, module) = (Arc::clone(&self.queue), self.module);
        queue.push(module, self);
    }
}

impl<F: Future> Drop for Waiting<F> {
    fn drop(&mut self) {
        let mut state = self.job.lock();
        state.phase = Phase::Gone;
        let work = state.work.take();
        drop(state);
        drop(work);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Dropped(mpsc::Sender<()>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    /// Calls that nobody waited for any more kept their instances until a thread of the lane had time for them.
    #[test]
    fn what_nobody_waits_for_is_dropped_without_a_thread_of_the_lane() {
        let queue = Arc::new(Queue::default());
        let (sender, dropped) = mpsc::channel();
        let held = Dropped(sender);
        let work = Box::pin(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let (waiting, _receiver) = Job::start(&queue, 1, work);
        drop(waiting);
        dropped.try_recv().unwrap();
    }

    #[test]
    fn a_call_that_panics_ends_without_a_result_and_leaves_the_thread() {
        let queue = Arc::new(Queue::default());
        let (_first, panicked) = Job::start(&queue, 1, Box::pin(async { panic!("on purpose") }));
        let (_second, sound) = Job::start(&queue, 1, Box::pin(async { 7 }));
        let served = Arc::clone(&queue);
        let thread = std::thread::spawn(move || served.serve());
        let panicked: Result<(), _> = panicked.blocking_recv();
        assert!(panicked.is_err());
        assert_eq!(sound.blocking_recv(), Ok(7));
        queue.end();
        thread.join().unwrap();
    }
}
