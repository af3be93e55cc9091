//! Random transactions of several clients on a real server, and whether what they saw is strictly
//! serializable. `benches/README.md` tells how to use it.

mod client;
mod program;
mod round;
#[cfg(feature = "seeded-bugs")]
mod seeded;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use luge_benches::histories::Figures;
use luge_benches::random::fresh_seed;
use luge_server::config::DurabilitySetting;

use crate::round::{Checked, Run};

/// Transactions that are checked together. Each round has keys of its own.
const ROUND_TRANSACTIONS: u64 = 4_000;

/// The store of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    Sled,
    Memory,
}

/// How much the store holds before it folds, evicts, writes bases and removes log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bounds {
    /// A server's own: a history of this length stays in memory.
    Default,
    /// So small that all of that happens all the time.
    Small,
    /// The two in turn.
    Both,
}

/// How the server is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) store: Store,
    pub(crate) has_small_bounds: bool,
    pub(crate) durability: DurabilitySetting,
}

/// Checks that a server is strictly serializable.
#[derive(Debug, Parser)]
#[command(name = "histories")]
struct Arguments {
    /// How many transactions.
    #[arg(long, default_value_t = 20_000)]
    transactions: u64,
    /// What the random choices begin with; the same seed makes the same choices, not the same timing.
    #[arg(long)]
    seed: Option<u64>,
    /// How many connections.
    #[arg(long, default_value_t = 6)]
    clients: usize,
    /// Fewer transactions, for CI.
    #[arg(long)]
    quick: bool,
    /// Goes on until an anomaly is found.
    #[arg(long)]
    until_found: bool,
    /// The server's store.
    #[arg(long, value_enum, default_value = "sled")]
    store: Store,
    /// The bounds of the server's store.
    #[arg(long, value_enum, default_value = "both")]
    bounds: Bounds,
    /// When the server acknowledges: always, everysec or `interval:<ms>`.
    #[arg(long, default_value = "always", value_parser = durability)]
    durability: DurabilitySetting,
    /// Plants a bug in the server; needs the feature `seeded-bugs`.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Plants each bug in turn, and fails if one is not found; needs the feature `seeded-bugs`.
    #[arg(long)]
    self_test: bool,
}

fn main() -> ExitCode {
    luge_benches::run(run(&Arguments::parse()))
}

async fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if arguments.self_test || arguments.bug.is_some() {
        return run_seeded(arguments).await;
    }
    hunt(arguments).await
}

#[cfg(feature = "seeded-bugs")]
async fn run_seeded(arguments: &Arguments) -> Result<ExitCode, String> {
    if arguments.self_test {
        return seeded::self_test(arguments.clients).await;
    }
    let name = arguments.bug.as_deref().unwrap_or_default();
    seeded::plant(name)?;
    hunt(arguments).await
}

#[cfg(not(feature = "seeded-bugs"))]
async fn run_seeded(_: &Arguments) -> Result<ExitCode, String> {
    Err("bugs can be planted in a build with --features seeded-bugs only".to_owned())
}

/// Checks round after round, to the first anomaly.
async fn hunt(arguments: &Arguments) -> Result<ExitCode, String> {
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let began = Instant::now();
    let mut runs = Vec::new();
    for (seed, setup) in (seed..).zip(setups(arguments)) {
        let run = Run::start(setup, arguments.clients, seed).await;
        runs.push(run.map_err(|error| error.to_string())?);
    }
    let wanted = match arguments.quick {
        true => arguments.transactions.min(8_000),
        false => arguments.transactions,
    };
    let mut totals = Totals::default();
    while arguments.until_found || totals.transactions < wanted {
        let left = wanted.saturating_sub(totals.transactions);
        let transactions = match arguments.until_found {
            true => ROUND_TRANSACTIONS,
            false => ROUND_TRANSACTIONS.min(left),
        };
        let Some(run) = runs.first_mut() else { break };
        let checked = run.round(transactions).await.map_err(|it| it.to_string())?;
        runs.rotate_left(1);
        totals.transactions += checked.history.operations.len() as u64;
        match &checked.verdict {
            Ok(figures) => totals.add(figures),
            Err(_) => {
                tell(&checked, seed)?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    let retries = runs.iter().map(Run::retries).sum();
    println!("{}", totals.line(retries, began.elapsed(), seed));
    Ok(ExitCode::SUCCESS)
}

/// The servers between which rounds take turns.
fn setups(arguments: &Arguments) -> Vec<Setup> {
    let sizes: &[bool] = match (arguments.store, arguments.bounds) {
        (Store::Memory, _) | (Store::Sled, Bounds::Default) => &[false],
        (Store::Sled, Bounds::Small) => &[true],
        (Store::Sled, Bounds::Both) => &[false, true],
    };
    let setup = |has_small_bounds: &bool| Setup {
        store: arguments.store,
        has_small_bounds: *has_small_bounds,
        durability: arguments.durability,
    };
    sizes.iter().map(setup).collect()
}

fn durability(text: &str) -> Result<DurabilitySetting, String> {
    DurabilitySetting::try_from(text.to_owned())
}

#[derive(Default)]
struct Totals {
    transactions: u64,
    reads: usize,
    replaced: usize,
}

impl Totals {
    fn add(&mut self, figures: &Figures) {
        self.reads += figures.reads;
        self.replaced += figures.replaced_reads;
    }

    fn line(&self, retries: u64, took: Duration, seed: u64) -> String {
        let Self {
            transactions,
            reads,
            replaced,
        } = self;
        format!(
            "strictly serializable: {transactions} transactions, {reads} reads of which {replaced} were replaced \
             later, {retries} attempts that conflicted, {:.1} s, seed {seed}",
            took.as_secs_f64()
        )
    }
}

/// Prints an anomaly, and writes the history that has it.
fn tell(checked: &Checked, seed: u64) -> Result<(), String> {
    let Err(anomaly) = &checked.verdict else {
        return Ok(());
    };
    let path = PathBuf::from(format!("history-{seed}.txt"));
    checked
        .history
        .save(&path)
        .map_err(|error| format!("can't write {}: {error}", path.display()))?;
    println!("not strictly serializable: {anomaly}");
    println!("the history is in {}, the seed is {seed}", path.display());
    Ok(())
}
