//! Modules that nobody wrote, pushed and called on a server in memory: it neither panics nor hangs, and
//! what a failed call wrote is not there. `benches/README.md` tells how to use it.

mod arena;
mod imports;
mod sequence;
mod watchdog;
mod wild;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use luge_benches::random::{Random, fresh_seed};

use crate::arena::Arena;
use crate::watchdog::Watchdog;

/// What `--quick` runs for.
const QUICK: Duration = Duration::from_secs(60);

/// After so many cases the process has what it keeps for good.
const WARM_UP_CASES: u64 = 300;

/// What it may hold more at the end than after that.
const MAX_GROWTH_BYTES: u64 = 256 << 20;

/// Pushes and calls modules that are made at random.
#[derive(Debug, Parser)]
#[command(name = "smith")]
struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// The seed of the first case; each further one has the next.
    #[arg(long)]
    seed: Option<u64>,
    /// How many cases at most.
    #[arg(long)]
    cases: Option<u64>,
    /// For a minute, as CI does.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    luge_benches::run(run(Arguments::parse()))
}

async fn run(arguments: Arguments) -> Result<ExitCode, String> {
    let first = arguments.seed.unwrap_or_else(fresh_seed);
    let time = match arguments.quick {
        true => QUICK,
        false => Duration::from_secs(arguments.seconds),
    };
    println!("smith: from the seed {first} on, for {} s", time.as_secs());
    let end = Instant::now() + time;
    let watchdog = Arc::new(Watchdog::start());
    let mut arena = Arena::new().await?;
    let mut figures = Figures::default();
    let mut warm = None;
    let mut seed = first;
    while Instant::now() < end && arguments.cases.is_none_or(|most| figures.cases < most) {
        watchdog.note(seed);
        // A task of its own, so that a panic is told with its seed.
        let case = tokio::spawn(async move {
            let outcome = arena.meet(seed).await;
            (arena, outcome)
        });
        let outcome;
        (arena, outcome) = match case.await {
            Ok(done) => done,
            Err(panic) => return Ok(failed(seed, &panic.to_string())),
        };
        match outcome {
            Ok(met) => figures.add(&met),
            Err(reason) => return Ok(failed(seed, &reason)),
        }
        if figures.cases == WARM_UP_CASES {
            warm = Some(resident_bytes()?);
        }
        seed = seed.wrapping_add(1);
    }
    let grown = warm.map_or(Ok(0), |warm| {
        resident_bytes().map(|now| now.saturating_sub(warm))
    })?;
    if grown > MAX_GROWTH_BYTES {
        let leak = format!("the process grew by {grown} bytes, which exceeds {MAX_GROWTH_BYTES}");
        return Ok(failed(first, &leak));
    }
    figures.print(grown);
    Ok(ExitCode::SUCCESS)
}

fn failed(seed: u64, reason: &str) -> ExitCode {
    println!("FAILED: {reason}");
    println!("again: smith --seed {seed} --cases 1");
    ExitCode::FAILURE
}

/// What became of a case.
#[derive(Default)]
struct Met {
    was_pushed: bool,
    calls: u64,
    done: u64,
}

#[derive(Default)]
struct Figures {
    cases: u64,
    pushed: u64,
    calls: u64,
    done: u64,
}

impl Figures {
    fn add(&mut self, met: &Met) {
        self.cases += 1;
        self.pushed += u64::from(met.was_pushed);
        self.calls += met.calls;
        self.done += met.done;
    }

    fn print(&self, grown: u64) {
        let Self {
            cases,
            pushed,
            calls,
            done,
        } = self;
        println!(
            "{cases} modules, of which {pushed} were accepted; {calls} calls, of which {done} succeeded"
        );
        println!(
            "the process grew by {} KiB behind the first {WARM_UP_CASES}",
            grown >> 10
        );
    }
}

/// A generator for a case.
fn random(seed: u64) -> Random {
    Random::new(seed)
}

/// What the process holds in memory.
fn resident_bytes() -> Result<u64, String> {
    const PAGE_BYTES: u64 = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm").map_err(|error| error.to_string())?;
    let resident = pages
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    resident
        .map(|pages| pages * PAGE_BYTES)
        .ok_or_else(|| "no resident pages".to_owned())
}
