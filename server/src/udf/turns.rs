//! Turns: which of the calls that run long may run, and which wait.
//!
//! There are as many turns as threads to run in. A call takes one for each of its slices, and whoever waits
//! gets it next by the module, each module in its turn and within one by who came first. So a module with
//! a thousand calls has no more of the processors than a module with one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The turns, and who waits for one.
pub(super) struct Turns {
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// Modules with someone who waits, in the order in which they come.
    modules: VecDeque<(ModuleNumber, VecDeque<oneshot::Sender<Turn>>)>,
}

/// Tells a loaded module from others.
pub(super) type ModuleNumber = u64;

/// A turn. Dropping it gives it to who comes next.
pub(super) struct Turn {
    turns: Arc<Turns>,
}

/// A turn, or what it comes by.
pub(super) enum Asked {
    Now(Turn),
    Later(oneshot::Receiver<Turn>),
}

impl Turns {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let state = State {
            free: count,
            modules: VecDeque::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// Takes a turn for a call of a module, or a place among those who wait.
    pub(super) fn ask(self: &Arc<Self>, module: ModuleNumber) -> Asked {
        let mut state = self.lock();
        // A turn that is free has nobody waiting for it.
        if state.free > 0 {
            state.free -= 1;
            return Asked::Now(Turn {
                turns: Arc::clone(self),
            });
        }
        let (sender, receiver) = oneshot::channel();
        match state.modules.iter_mut().find(|(it, _)| *it == module) {
            Some((_, waiting)) => waiting.push_back(sender),
            None => state.modules.push_back((module, VecDeque::from([sender]))),
        }
        Asked::Later(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next who waits, after which its module goes behind the others.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let (module, mut waiting) = self.modules.pop_front()?;
        let next = waiting.pop_front();
        if !waiting.is_empty() {
            self.modules.push_back((module, waiting));
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        let next = loop {
            match state.next() {
                // Who does not wait any more is passed over.
                Some(next) if next.is_closed() => {}
                Some(next) => break next,
                None => {
                    state.free += 1;
                    return;
                }
            }
        };
        drop(state);
        // Where it went away just now, the turn comes back and is dropped again.
        drop(next.send(Self {
            turns: Arc::clone(&self.turns),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(asked: Asked) -> Turn {
        match asked {
            Asked::Now(turn) => turn,
            Asked::Later(_) => panic!("no turn is free"),
        }
    }

    fn later(asked: Asked) -> oneshot::Receiver<Turn> {
        match asked {
            Asked::Now(_) => panic!("a turn is free"),
            Asked::Later(receiver) => receiver,
        }
    }

    #[test]
    fn a_module_with_many_calls_waits_as_long_as_one_with_a_single_call() {
        let turns = Turns::new(1);
        let mut turn = now(turns.ask(1));
        let mut many: VecDeque<_> = (0..5).map(|_| later(turns.ask(1))).collect();
        let mut one = later(turns.ask(2));
        drop(turn);
        turn = many.pop_front().unwrap().try_recv().unwrap();
        assert!(one.try_recv().is_err());
        many.push_back(later(turns.ask(1)));
        drop(turn);
        turn = one.try_recv().unwrap();
        one = later(turns.ask(2));
        drop(turn);
        turn = many.pop_front().unwrap().try_recv().unwrap();
        drop(turn);
        assert!(one.try_recv().is_ok());
    }

    #[test]
    fn who_goes_away_takes_no_turn_along() {
        let turns = Turns::new(2);
        let held = [now(turns.ask(1)), now(turns.ask(2))];
        let (first, second) = (later(turns.ask(1)), later(turns.ask(3)));
        drop(first);
        drop(held);
        // One has it without having looked.
        drop(second);
        assert_eq!(turns.lock().free, 2);
        assert!(turns.lock().modules.is_empty());
    }
}
