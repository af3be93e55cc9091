//! Bugs that are planted, and have to be found.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use luge_benches::random::fresh_seed;
use luge_server::bugs::{Bug, seed};
use luge_server::config::DurabilitySetting;

use crate::round::Run;
use crate::{Setup, Store};

/// The bugs that a history can show, each with the store that has it. Those of durability are
/// `torture`'s, or a power cut's.
const FOUND_HERE: [(Bug, Setup); 27] = [
    (Bug::DropPoints, DEFAULT),
    (Bug::DropRanges, DEFAULT),
    (Bug::RangeToLastRow, DEFAULT),
    (Bug::UnrecordedDelete, DEFAULT),
    (Bug::GetWithoutOwnWrites, DEFAULT),
    (Bug::ScanWithoutOwnWrites, DEFAULT),
    (Bug::UndoNothing, DEFAULT),
    (Bug::KeepFailedCommand, DEFAULT),
    (Bug::LoseHookWrites, DEFAULT),
    (Bug::TrustRetries, DEFAULT),
    (Bug::IgnoreExpiryAtCommit, DEFAULT),
    (Bug::LateExpiryInGet, DEFAULT),
    (Bug::ForgetLastWrite, DEFAULT),
    (Bug::ReplyBeforeGate, DEFAULT),
    (Bug::SnapshotOffByOne, MEMORY),
    (Bug::SkipRangeValidation, MEMORY),
    (Bug::SnapshotOffByOne, SMALL),
    (Bug::SkipPointValidation, SMALL),
    (Bug::SkipRangeValidation, SMALL),
    (Bug::DecideOnAcked, SMALL),
    (Bug::ForgetOlderVersions, SMALL),
    (Bug::KeepWhole, SMALL),
    (Bug::LostOrderEntry, SMALL),
    (Bug::KeepStretches, SMALL),
    (Bug::StaleCacheFill, SMALL),
    (Bug::FoldAboveOldestSnapshot, SMALL),
    (Bug::ForgetFoldedDelete, SMALL),
];

const DEFAULT: Setup = Setup {
    store: Store::Sled,
    has_small_bounds: false,
    durability: DurabilitySetting::Always,
};

const MEMORY: Setup = Setup {
    store: Store::Memory,
    ..DEFAULT
};

const SMALL: Setup = Setup {
    has_small_bounds: true,
    ..DEFAULT
};

const MAX_TRANSACTIONS: u64 = 200_000;
const MAX_TIME: Duration = Duration::from_secs(30);

/// Small rounds, so that what is found is found soon.
const ROUND_TRANSACTIONS: u64 = 1_500;

/// Plants the bug of this name.
pub(crate) fn plant(name: &str) -> Result<(), String> {
    let Some(bug) = Bug::named(name) else {
        let names: Vec<String> = Bug::ALL.iter().map(|bug| format!("{bug:?}")).collect();
        return Err(format!("no bug `{name}`; there are {}", names.join(", ")));
    };
    seed(Some(bug));
    Ok(())
}

/// Plants each bug, and hunts for it.
pub(crate) async fn self_test(clients: usize) -> Result<ExitCode, String> {
    let mut missed = Vec::new();
    for (bug, setup) in FOUND_HERE {
        seed(Some(bug));
        let found = hunt(setup, clients).await?;
        seed(None);
        match found {
            Found::Yes { name, line } => println!("{bug:?}: {name}, {line}"),
            Found::No { line } => {
                println!("{bug:?}: MISSED, {line}");
                missed.push(format!("{bug:?}"));
            }
        }
    }
    if missed.is_empty() {
        println!("all {} bugs were found", FOUND_HERE.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("not found: {}", missed.join(", "));
    Ok(ExitCode::FAILURE)
}

enum Found {
    Yes { name: String, line: String },
    No { line: String },
}

async fn hunt(setup: Setup, clients: usize) -> Result<Found, String> {
    let began = Instant::now();
    let random = fresh_seed();
    let mut run = Run::start(setup, clients, random)
        .await
        .map_err(|error| error.to_string())?;
    let mut transactions = 0;
    loop {
        let checked = run
            .round(ROUND_TRANSACTIONS)
            .await
            .map_err(|error| error.to_string())?;
        transactions += checked.history.operations.len() as u64;
        let seconds = began.elapsed().as_secs_f64();
        let line = format!("{transactions} transactions, {seconds:.1} s, seed {random}");
        if let Err(anomaly) = checked.verdict {
            let name = anomaly.name;
            return Ok(Found::Yes { name, line });
        }
        if transactions >= MAX_TRANSACTIONS || began.elapsed() >= MAX_TIME {
            return Ok(Found::No { line });
        }
    }
}
