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

use crate::round::{Checked, Run};

/// Transactions that are checked together. Each round has keys of its own.
const ROUND_TRANSACTIONS: u64 = 4_000;

/// The store of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    Sled,
    Memory,
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
    /// Plants a bug in the server; needs the feature `seeded-bugs`.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Plants each bug in turn, and fails if one is not found; needs the feature `seeded-bugs`.
    #[arg(long)]
    self_test: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(error) => Err(format!("can't start the runtime: {error}")),
    };
    match outcome {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
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
    let mut run = Run::start(arguments.store, arguments.clients, seed)
        .await
        .map_err(|error| error.to_string())?;
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
        let checked = run.round(transactions).await.map_err(|it| it.to_string())?;
        totals.transactions += checked.history.operations.len() as u64;
        match &checked.verdict {
            Ok(figures) => totals.add(figures),
            Err(_) => {
                tell(&checked, seed)?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    println!("{}", totals.line(run.retries(), began.elapsed(), seed));
    Ok(ExitCode::SUCCESS)
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
