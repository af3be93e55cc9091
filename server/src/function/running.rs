//! A call as others see it while it runs: what it has used so far, and whether it is to end.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::Usage;

/// Shared by a request that runs functions and whoever looks at it or ends it.
#[derive(Debug, Default)]
pub struct Running {
    is_killed: AtomicBool,
    killed: Notify,
    fuel: AtomicU64,
    cpu_us: AtomicU64,
    memory_bytes: AtomicU64,
}

impl Running {
    /// Ends it: at its next tick, or at once where it waits.
    pub fn kill(&self) {
        self.is_killed.store(true, Ordering::Release);
        self.killed.notify_waiters();
    }

    /// Whether it is to end.
    pub fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire)
    }

    /// Resolves when it is killed.
    pub async fn killed(&self) {
        let mut killed = pin!(self.killed.notified());
        killed.as_mut().enable();
        if !self.is_killed() {
            killed.await;
        }
    }

    /// Notes what the function that runs has used.
    pub fn note(&self, usage: &Usage) {
        let cpu_us = u64::try_from(usage.cpu.as_micros()).unwrap_or(u64::MAX);
        self.fuel.store(usage.fuel, Ordering::Relaxed);
        self.cpu_us.store(cpu_us, Ordering::Relaxed);
        let memory_bytes = usage.memory_bytes as u64;
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
    }

    /// What was noted last.
    pub fn used(&self) -> Usage {
        let memory_bytes = self.memory_bytes.load(Ordering::Relaxed);
        Usage {
            fuel: self.fuel.load(Ordering::Relaxed),
            cpu: Duration::from_micros(self.cpu_us.load(Ordering::Relaxed)),
            memory_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX),
        }
    }
}
