//! A request that runs functions, as others see it: what it is, what it does at the moment, and whether it is to end.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Usage;
use super::call::{Function, RequestContext};

/// Shared by a request that runs functions, its calls, and whoever looks at it or ends it.
#[derive(Debug, Default)]
pub struct Running {
    request: RequestContext,
    attempt: AtomicU32,
    /// The function that runs; none while it waits.
    function: Mutex<Option<Arc<Function>>>,
    is_killed: AtomicBool,
    killed: Notify,
    fuel: AtomicU64,
    cpu_us: AtomicU64,
    memory_bytes: AtomicU64,
}

impl Running {
    /// A request that has run nothing yet.
    pub fn new(request: RequestContext) -> Self {
        Self {
            request,
            ..Self::default()
        }
    }

    /// The request.
    pub fn request(&self) -> &RequestContext {
        &self.request
    }

    /// Which attempt this is, from 1 on.
    pub fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }

    /// Notes that an attempt begins.
    pub fn begin(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
    }

    /// Notes that a function runs.
    pub fn runs(&self, function: &Arc<Function>) {
        self.note(&Usage::default());
        let function = Some(Arc::clone(function));
        let before = std::mem::replace(&mut *self.lock(), function);
        drop(before);
    }

    /// Notes that none does.
    pub fn waits(&self) {
        let before = self.lock().take();
        drop(before);
    }

    /// The function that runs; none while it waits.
    pub fn function(&self) -> Option<Arc<Function>> {
        self.lock().clone()
    }

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

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Function>>> {
        self.function.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
