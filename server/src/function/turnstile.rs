//! A turnstile: those that come all at once pass a little apart, one at a time, and whoever else is ready in between.
//!
//! Calls that began together meet their deadlines together, and whose calls all end together asks anew for all of them
//! together. Were they ended in a row, a request that comes meanwhile would wait for all of them, every time.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How far apart they pass: several times what one of them takes.
const APART: Duration = Duration::from_micros(500);

/// The longest that one waits to be apart from those before it, a tenth of the usual deadline: of a larger crowd the rest
/// passes one behind the other.
const LONGEST: Duration = Duration::from_millis(100);

/// Where those pass that may come in crowds, and whom nobody waits for in a hurry.
#[derive(Debug)]
pub struct Turnstile {
    turn: Semaphore,
    spread: Mutex<Spread>,
}

/// When the next one passes.
#[derive(Debug)]
struct Spread {
    apart: Duration,
    next: Option<Instant>,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self::new(APART)
    }
}

impl Turnstile {
    fn new(apart: Duration) -> Self {
        Self {
            turn: Semaphore::new(1),
            spread: Mutex::new(Spread { apart, next: None }),
        }
    }

    /// Does the work of one that comes now once those who came before have passed, and lets others have their turn behind
    /// it.
    pub async fn pass<T>(&self, now: Instant, work: impl Future<Output = T>) -> T {
        let wait = self.wait(now);
        if !wait.is_zero() {
            sleep(wait).await;
        }
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let done = work.await;
        // What has arrived meanwhile comes first: it is looked at only behind a thread's last task.
        tokio::task::yield_now().await;
        done
    }

    fn wait(&self, now: Instant) -> Duration {
        let mut spread = self.spread.lock().unwrap_or_else(PoisonError::into_inner);
        spread.wait(now)
    }
}

impl Spread {
    /// How long one waits that comes now.
    fn wait(&mut self, now: Instant) -> Duration {
        let own = self.next.map_or(now, |next| next.clamp(now, now + LONGEST));
        self.next = Some(own + self.apart);
        own - now
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::now;

    /// Two hundred calls that met their deadlines together were ended in a row, and a read that came meanwhile waited for
    /// some milliseconds.
    #[tokio::test]
    async fn between_two_of_a_crowd_whoever_else_is_ready_has_a_turn() {
        let turnstile = Arc::new(Turnstile::new(Duration::ZERO));
        let told = Arc::new(Mutex::new(String::new()));
        let tell = |told: &Mutex<String>, what| told.lock().unwrap().push(what);
        let crowd: Vec<_> = (0..5)
            .map(|_| {
                let (turnstile, told) = (Arc::clone(&turnstile), Arc::clone(&told));
                tokio::spawn(async move {
                    let work = async { tell(&told, 'c') };
                    turnstile.pass(now(), work).await;
                })
            })
            .collect();
        let other = Arc::clone(&told);
        let other = tokio::spawn(async move {
            for _ in 0..5 {
                tell(&other, 'o');
                tokio::task::yield_now().await;
            }
        });
        for one in crowd.into_iter().chain([other]) {
            one.await.unwrap();
        }
        let told = told.lock().unwrap();
        assert!(!told.contains("cc") && told.len() == 10, "{told}");
    }

    #[test]
    fn a_crowd_passes_apart_and_none_of_it_waits_for_longer_than_the_bound() {
        let mut spread = Spread {
            apart: APART,
            next: None,
        };
        let now = now();
        let waits: Vec<Duration> = (0..1000).map(|_| spread.wait(now)).collect();
        let apart = |pair: &[Duration]| pair[1] - pair[0];
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits[..200].windows(2).all(|pair| apart(pair) == APART));
        assert_eq!(waits[999], LONGEST);
        assert_eq!(spread.wait(now + LONGEST * 2), Duration::ZERO);
    }
}
