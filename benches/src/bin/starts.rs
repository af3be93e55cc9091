//! Starts: how much longer a server takes to be ready with 100 modules than with none.
//!
//! The modules are the examples, each with a section of its own, so that no two have the same bytes.
//! Prints the least of several starts of each kind, and fails where the difference is over the bound.

#![expect(clippy::print_stdout, reason = "this is where the program prints")]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use luge_client::{Client, PushOptions};
use luge_server::server::COMPILED_FOLDER;
use luge_server::testing::start_in;

const MODULES: usize = 100;

/// How often each kind of start is measured.
const STARTS: usize = 7;

/// How much longer a start may take with the modules than without.
const MAX_MORE: Duration = Duration::from_millis(50);

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../udfs/examples/built");

fn main() -> ExitCode {
    luge_benches::run(measure())
}

async fn measure() -> Result<ExitCode, String> {
    let folder = || tempfile::tempdir().map_err(|error| error.to_string());
    let (empty, full) = (folder()?, folder()?);
    push(full.path()).await?;
    let without = least(empty.path()).await;
    let kept = least(full.path()).await;
    let compiled = full.path().join(COMPILED_FOLDER);
    let began = Instant::now();
    std::fs::remove_dir_all(&compiled).map_err(|error| error.to_string())?;
    drop(start_in(full.path(), |_| {}).await);
    let anew = began.elapsed();
    let more = kept.saturating_sub(without);
    println!("ready without modules: {without:.1?}");
    println!("ready with {MODULES} modules: {kept:.1?}, {more:.1?} more");
    println!("ready and stopped with {MODULES} modules compiled anew: {anew:.1?}");
    match more <= MAX_MORE {
        true => Ok(ExitCode::SUCCESS),
        false => {
            println!("the bound is {MAX_MORE:?} more");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The time until the server listens, with its modules loaded.
async fn least(folder: &Path) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..STARTS {
        let began = Instant::now();
        let server = start_in(folder, |_| {}).await;
        least = least.min(began.elapsed());
        drop(server);
    }
    least
}

async fn push(folder: &Path) -> Result<(), String> {
    let server = start_in(folder, |_| {}).await;
    let client = Client::connect(server.address())
        .await
        .map_err(|error| error.to_string())?;
    let examples = examples().map_err(|error| error.to_string())?;
    for (number, wasm) in (0..MODULES).zip(examples.iter().cycle()) {
        let name = format!("module-{number}");
        let wasm = distinct(wasm, number);
        let pushed = client.module_push(&name, &wasm, PushOptions::default());
        pushed.await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn examples() -> std::io::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<_> = std::fs::read_dir(EXAMPLES)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "wasm"))
        .collect();
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}

/// The same module with a custom section that has a number.
fn distinct(wasm: &[u8], number: usize) -> Vec<u8> {
    let number = u8::try_from(number).unwrap_or(u8::MAX);
    [wasm, &[0, 3, 1, b'n', number]].concat()
}
