//! The queue of calls that run long: each module in its turn, and within a module by who came first.
//!
//! A call stands in it once for each slice that it is to run, so a module with a thousand calls has no more of the
//! threads that serve it than a module with one.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What runs for a slice. It comes back by itself if there is more of it.
pub(super) trait Slice: Send + Sync {
    /// Runs it.
    fn run(self: Arc<Self>);
}

/// Tells a loaded module from others.
pub(super) type ModuleNumber = u64;

/// The slices that wait for a thread.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is a slice, or there will be none any more.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    /// Modules with something to run, in the order in which they come.
    modules: VecDeque<(ModuleNumber, VecDeque<Arc<dyn Slice>>)>,
    is_ended: bool,
}

impl Queue {
    /// Puts a slice behind those of its module; answers `false` once the queue has ended.
    pub(super) fn push(&self, module: ModuleNumber, slice: Arc<dyn Slice>) -> bool {
        let mut state = self.lock();
        if state.is_ended {
            return false;
        }
        match state.modules.iter_mut().find(|(it, _)| *it == module) {
            Some((_, waiting)) => waiting.push_back(slice),
            None => state.modules.push_back((module, VecDeque::from([slice]))),
        }
        drop(state);
        self.ready.notify_one();
        true
    }

    /// Takes a slice out that nobody wants any more, so that none of its module's turns is spent on it.
    pub(super) fn remove(&self, module: ModuleNumber, slice: &Arc<impl Slice + 'static>) {
        let slice = Arc::as_ptr(slice).cast::<()>();
        let mut state = self.lock();
        let found = state.modules.iter().position(|(it, _)| *it == module);
        let Some(at) = found else { return };
        let Some((_, waiting)) = state.modules.get_mut(at) else {
            return;
        };
        waiting.retain(|it| Arc::as_ptr(it).cast::<()>() != slice);
        if waiting.is_empty() {
            state.modules.remove(at);
        }
    }

    /// Runs slices until the queue has ended.
    pub(super) fn serve(&self) {
        while let Some(slice) = self.next() {
            // What drops a call may fail in a fault of our own, too; the thread has others to serve. The process's hook tells
            // the panic.
            let _ = catch_unwind(AssertUnwindSafe(|| slice.run()));
        }
    }

    /// Ends the queue. What waits in it is dropped.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.is_ended = true;
        let left = std::mem::take(&mut state.modules);
        drop(state);
        self.ready.notify_all();
        drop(left);
    }

    /// The next slice, once there is one; `None` once there will be none.
    fn next(&self) -> Option<Arc<dyn Slice>> {
        let mut state = self.lock();
        while state.modules.is_empty() && !state.is_ended {
            let waited = self.ready.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.next()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next slice, after which its module goes behind the others.
    fn next(&mut self) -> Option<Arc<dyn Slice>> {
        let (module, mut waiting) = self.modules.pop_front()?;
        let next = waiting.pop_front();
        if !waiting.is_empty() {
            self.modules.push_back((module, waiting));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says that it ran.
    struct Said(&'static str, Arc<Mutex<Vec<&'static str>>>);

    impl Slice for Said {
        fn run(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn a_module_with_many_slices_waits_as_long_as_one_with_a_single_slice() {
        let queue = Queue::default();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let said = |name| Arc::new(Said(name, Arc::clone(&ran)));
        for name in ["1a", "1b", "1c"] {
            queue.push(1, said(name));
        }
        queue.push(2, said("2a"));
        for again in ["", "2b", ""] {
            queue.next().unwrap().run();
            if !again.is_empty() {
                queue.push(2, said(again));
            }
        }
        while !queue.lock().modules.is_empty() {
            queue.next().unwrap().run();
        }
        assert_eq!(*ran.lock().unwrap(), ["1a", "2a", "1b", "2b", "1c"]);
    }

    /// Calls that were given up stood in the queue until their turn came, and each took one: a module whose calls met
    /// their deadlines faster than it had turns never ran again.
    #[test]
    fn a_slice_that_is_taken_out_takes_no_turn() {
        let queue = Queue::default();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let said = |name| Arc::new(Said(name, Arc::clone(&ran)));
        let given_up: Vec<_> = (0..1_000).map(|_| said("given up")).collect();
        for slice in &given_up {
            let slice = Arc::clone(slice);
            queue.push(1, slice);
        }
        queue.push(1, said("1"));
        queue.push(2, said("2"));
        for slice in &given_up {
            queue.remove(1, slice);
        }
        queue.next().unwrap().run();
        queue.next().unwrap().run();
        assert!(queue.lock().modules.is_empty());
        assert_eq!(*ran.lock().unwrap(), ["1", "2"]);
    }

    #[test]
    fn the_last_slice_of_a_module_takes_its_turn_with_it() {
        let queue = Queue::default();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let slice = Arc::new(Said("1", Arc::clone(&ran)));
        let pushed = Arc::clone(&slice);
        queue.push(1, pushed);
        queue.remove(1, &slice);
        queue.remove(1, &slice);
        queue.push(2, Arc::new(Said("2", Arc::clone(&ran))));
        queue.next().unwrap().run();
        assert_eq!(*ran.lock().unwrap(), ["2"]);
    }

    #[test]
    fn who_waits_for_a_slice_ends_with_the_queue() {
        let queue = Arc::new(Queue::default());
        let served = Arc::clone(&queue);
        let thread = std::thread::spawn(move || served.serve());
        queue.end();
        thread.join().unwrap();
    }
}
