//! A call in the lane: polled a slice at a time by the lane's threads, and given up or taken back by whoever waits
//! for it.
//!
//! ```text
//!            pushed                 popped                     ready
//!   (start) ───────▶ Queued ──────────────────▶ Running ────────────────▶ Gone
//!                      ▲   ◀── pending, Woken ──┘  │ pending
//!                      └───────────── woken ───── Idle
//!
//!   Queued, Idle ── given up, taken back ──▶ Gone
//!   Running, Woken ── given up ──▶ Gone          dropped behind its slice
//!   Running, Woken ── taken back ──▶ Recalled ── pending ──▶ Gone, handed over
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
    done: Option<oneshot::Sender<Left<F>>>,
}

/// What a job leaves to whoever waits for it.
pub(super) enum Left<F: Future> {
    /// It ended.
    Output(F::Output),
    /// It was taken back while it ran, and has more to do.
    Work(Pin<Box<F>>),
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
    /// It was taken back while it runs.
    Recalled,
    /// It is over, or nobody waits for it.
    Gone,
}

/// Whoever waits for a job. Dropping it gives the job up: at once where it does not run, and else with its slice.
#[must_use = "a job that nobody waits for is given up"]
pub(super) struct Waiting<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
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
    ) -> (Waiting<F>, oneshot::Receiver<Left<F>>) {
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
        job.push(&mut job.lock());
        (Waiting { job }, receiver)
    }

    /// Puts it into the queue. Its state is locked meanwhile, so that whoever gives it up finds it there.
    fn push(self: &Arc<Self>, state: &mut State<F>) {
        let slice = Arc::clone(self);
        state.phase = Phase::Queued;
        if !self.queue.push(self.module, slice) {
            // Nobody will ever run it.
            (state.phase, state.done) = (Phase::Gone, None);
        }
    }

    fn poll(self: &Arc<Self>, work: &mut Pin<Box<F>>) -> Option<Poll<F::Output>> {
        let waker = Waker::from(Arc::clone(self));
        let _runtime = self.runtime.as_ref().map(Handle::enter);
        let polled = || work.as_mut().poll(&mut Context::from_waker(&waker));
        // A fault of ours ends the call alone. The panic itself is told by the process's hook.
        catch_unwind(AssertUnwindSafe(polled)).ok()
    }

    /// Puts a call back that has more to do, or hands it over; gives it back where nobody waits for it.
    fn put_back(self: &Arc<Self>, work: Pin<Box<F>>) -> Option<Pin<Box<F>>> {
        let mut state = self.lock();
        match state.phase {
            Phase::Gone => return Some(work),
            Phase::Recalled => {
                state.phase = Phase::Gone;
                let done = state.done.take();
                drop(state);
                let Some(done) = done else { return Some(work) };
                return match done.send(Left::Work(work)) {
                    Err(Left::Work(work)) => Some(work),
                    Err(Left::Output(_)) | Ok(()) => None,
                };
            }
            Phase::Woken => {
                state.work = Some(work);
                self.push(&mut state);
            }
            Phase::Idle | Phase::Queued | Phase::Running => {
                state.work = Some(work);
                state.phase = Phase::Idle;
            }
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
            drop(done.send(Left::Output(ended)));
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
            Phase::Idle => self.push(&mut state),
            Phase::Running => state.phase = Phase::Woken,
            Phase::Queued | Phase::Woken | Phase::Recalled | Phase::Gone => {}
        }
    }
}

impl<F> Waiting<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    /// Takes the call back, to go on with it elsewhere. `None` where it runs: then it comes by the receiver, as soon as
    /// its slice is over.
    pub(super) fn take_back(&self) -> Option<Pin<Box<F>>> {
        let mut state = self.job.lock();
        match state.phase {
            Phase::Running | Phase::Woken => {
                state.phase = Phase::Recalled;
                None
            }
            _ => self.take_out(&mut state),
        }
    }

    /// Ends the job, and gives out what is left of it.
    fn take_out(&self, state: &mut State<F>) -> Option<Pin<Box<F>>> {
        if state.phase == Phase::Queued {
            self.job.queue.remove(self.job.module, &self.job);
        }
        state.phase = Phase::Gone;
        state.work.take()
    }
}

impl<F> Drop for Waiting<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn drop(&mut self) {
        let mut state = self.job.lock();
        let work = self.take_out(&mut state);
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
        assert!(panicked.blocking_recv().is_err());
        assert!(matches!(sound.blocking_recv(), Ok(Left::Output(7))));
        queue.end();
        thread.join().unwrap();
    }

    #[test]
    fn a_call_that_is_taken_back_goes_on_where_it_was() {
        let queue = Arc::new(Queue::default());
        let work = Box::pin(async { 7 });
        let (waiting, receiver) = Job::start(&queue, 1, work);
        let mut work = waiting.take_back().unwrap();
        assert!(waiting.take_back().is_none());
        drop(waiting);
        assert!(receiver.blocking_recv().is_err());
        let waker = Waker::noop();
        let polled = work.as_mut().poll(&mut Context::from_waker(waker));
        assert_eq!(polled, Poll::Ready(7));
    }

    #[test]
    fn a_call_that_is_taken_back_while_it_runs_is_handed_over_behind_its_slice() {
        let queue = Arc::new(Queue::default());
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        let work = Box::pin(async move {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            tokio::task::yield_now().await;
            7
        });
        let (waiting, receiver) = Job::start(&queue, 1, work);
        let served = Arc::clone(&queue);
        let thread = std::thread::spawn(move || served.serve());
        has_begun.recv().unwrap();
        assert!(waiting.take_back().is_none());
        go_on.send(()).unwrap();
        let Ok(Left::Work(mut work)) = receiver.blocking_recv() else {
            panic!("it was not handed over");
        };
        let waker = Waker::noop();
        let polled = work.as_mut().poll(&mut Context::from_waker(waker));
        assert_eq!(polled, Poll::Ready(7));
        queue.end();
        thread.join().unwrap();
    }

    #[test]
    fn a_call_ends_with_the_queue() {
        let queue = Arc::new(Queue::default());
        queue.end();
        let (_waiting, receiver) = Job::start(&queue, 1, Box::pin(async {}));
        assert!(receiver.blocking_recv().is_err());
    }
}
