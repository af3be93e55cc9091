//! Threads that do the same thing over and over, and what they got done.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Numbers in an order that repeats in each run: an xorshift generator.
pub(crate) struct Random(u64);

impl Random {
    /// One for each thread.
    pub(crate) fn new(thread: usize) -> Self {
        Self(0x2545_F491_4F6C_DD1D ^ ((thread as u64 + 1) << 32))
    }

    /// The next number below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Runs `work` in so many threads for a time; each call does some operations and answers how many.
/// Answers operations a second, and the process's CPU time for each.
pub(crate) fn rate(
    threads: usize,
    time: Duration,
    work: impl Fn(usize, &mut Random) -> u64 + Sync,
) -> Rate {
    let is_over = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let barrier = Barrier::new(threads + 1);
    let mut elapsed = Duration::ZERO;
    let cpu = process_cpu();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (is_over, done, barrier, work) = (&is_over, &done, &barrier, &work);
            scope.spawn(move || {
                let mut random = Random::new(thread);
                barrier.wait();
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    count += work(thread, &mut random);
                }
                done.fetch_add(count, Ordering::Relaxed);
            });
        }
        barrier.wait();
        let began = Instant::now();
        std::thread::sleep(time);
        is_over.store(true, Ordering::Relaxed);
        elapsed = began.elapsed();
    });
    Rate::of(done.load(Ordering::Relaxed), elapsed, process_cpu() - cpu)
}

/// What got done.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    /// Operations a second.
    pub(crate) second: f64,
    /// Nanoseconds of CPU for each, of all threads of the process.
    pub(crate) cpu_nanos: f64,
}

impl Rate {
    /// So many operations in that time.
    pub(crate) fn of(operations: u64, elapsed: Duration, cpu: Duration) -> Self {
        Self {
            second: operations as f64 / elapsed.as_secs_f64(),
            cpu_nanos: cpu.as_secs_f64() * 1e9 / operations as f64,
        }
    }

    /// The mean of rates of equal times.
    fn mean(rates: &[Self]) -> Self {
        let seconds: f64 = rates.iter().map(|rate| rate.second).sum();
        let cpu = rates.iter().map(|rate| rate.cpu_nanos * rate.second);
        Self {
            second: seconds / rates.len() as f64,
            cpu_nanos: cpu.sum::<f64>() / seconds,
        }
    }
}

/// How often the two that are compared take turns.
const TURNS: u32 = 3;

/// Measures two things in turns, since other programs of the machine come and go.
pub(crate) fn in_turns(
    mut ours: impl FnMut() -> Rate,
    mut sleds: impl FnMut() -> Rate,
) -> (Rate, Rate) {
    let rates: Vec<(Rate, Rate)> = (0..TURNS).map(|_| (sleds(), ours())).collect();
    let (sleds, ours): (Vec<Rate>, Vec<Rate>) = rates.into_iter().unzip();
    (Rate::mean(&ours), Rate::mean(&sleds))
}

/// The CPU time of all threads of this process.
pub(crate) fn process_cpu() -> Duration {
    time(rustix::time::ClockId::ProcessCPUTime)
}

/// The CPU time of this thread.
pub(crate) fn thread_cpu() -> Duration {
    time(rustix::time::ClockId::ThreadCPUTime)
}

fn time(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Prints a figure of ours beside sled's, and the ratio.
pub(crate) fn compare(what: &str, (ours, sleds): (Rate, Rate), target: f64) {
    let ratio = ours.second / sleds.second;
    let cpu_ratio = sleds.cpu_nanos / ours.cpu_nanos;
    let verdict = if ratio >= target { "reached" } else { "MISSED" };
    println!(
        "{what:<34} {:>9.0}/s {:>6.0} ns | sled {:>9.0}/s {:>6.0} ns | {ratio:.2} times, by cpu {cpu_ratio:.2} (target {target:.2}: {verdict})",
        ours.second, ours.cpu_nanos, sleds.second, sleds.cpu_nanos
    );
}

/// The resident memory of this process, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The length of all files below a folder, in bytes.
pub(crate) fn folder_bytes(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let bytes = entries.flatten().map(|entry| {
        use std::os::unix::fs::MetadataExt as _;
        match entry.metadata() {
            Ok(about) if about.is_dir() => folder_bytes(&entry.path()),
            Ok(about) => about.blocks() * 512,
            Err(_) => 0,
        }
    });
    bytes.sum()
}
