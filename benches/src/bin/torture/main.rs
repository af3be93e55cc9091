//! A server that is killed again and again under load, and must keep what it acknowledged.
//! `benches/README.md` tells how to use it.

mod load;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use luge_benches::process::{NotReady, Program, Server, program};
use luge_benches::random::{Random, fresh_seed};
use luge_client::Client;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::load::Worker;
use crate::verify::{Identity, prepare, verify};

const CLIENTS: usize = 4;

/// Kills a server under load, and checks what it kept.
#[derive(Debug, Parser)]
#[command(name = "torture")]
struct Arguments {
    /// How often the server is killed or stopped.
    #[arg(long, default_value_t = 100)]
    cycles: u64,
    /// What the random choices begin with; the same seed makes the same choices, not the same timing.
    #[arg(long)]
    seed: Option<u64>,
    /// When the server acknowledges: always, everysec or `interval:<ms>`. A kill may lose nothing at any.
    #[arg(long, default_value = "always")]
    durability: String,
    /// Sets the bounds of the store so low that kills meet folds, bases and segments that change.
    #[arg(long)]
    small: bool,
    /// A setting of the server, as its own `--set`; may be given more than once.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Plants a bug in the server, which has to be built with the feature `seeded-bugs`, too.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Plants each bug in turn that a kill shows, and fails if one is not found; needs the feature
    /// `seeded-bugs`.
    #[arg(long)]
    self_test: bool,
}

/// The bugs that a kill shows.
const FOUND_HERE: [&str; 4] = [
    "ReplyBeforeGate",
    "ForgetModule",
    "KeepRemovedModule",
    "NoteAppliedTooEarly",
];

/// How long each of them is hunted for.
const MAX_CYCLES: u64 = 300;

/// How a cycle ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Killed before anybody was told that it is ready.
    KilledStarting(Duration),
    /// Killed after so much load.
    Killed(Duration),
    /// Told to stop after so much load.
    Stopped(Duration),
}

/// A run over one folder.
struct Torture {
    program: Program,
    folder: PathBuf,
    workers: Vec<Worker>,
    identity: Identity,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    cycles: u64,
    kills: u64,
    stops: u64,
    restarts: u32,
    restarting: Duration,
    longest: Duration,
}

/// With these, a fold, a base or the removal of log goes on at most moments.
const SMALL: [&str; 6] = [
    "cache_bytes=65536",
    "max_unfolded_bytes=1048576",
    "fold_log_bytes=65536",
    "log_segment_bytes=262144",
    "base_log_bytes=1048576",
    "max_kept_log_bytes=1048576",
];

/// Why a run ended before its time.
enum Failure {
    /// Something is not as it was acknowledged.
    Lost(Vec<String>),
    /// The run itself did not work.
    Broken(String),
}

fn main() -> ExitCode {
    luge_benches::run(run_until_told(&Arguments::parse()))
}

/// Runs, to a signal at the latest: what is dropped then ends the server, which would go on otherwise.
async fn run_until_told(arguments: &Arguments) -> Result<ExitCode, String> {
    let terminated = signal(SignalKind::terminate());
    let mut terminated = terminated.map_err(|error| format!("no signals: {error}"))?;
    tokio::select! {
        ended = run(arguments) => ended,
        _ = terminated.recv() => Err("told to stop".to_owned()),
        _ = tokio::signal::ctrl_c() => Err("told to stop".to_owned()),
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let is_seeded = arguments.bug.is_some() || arguments.self_test;
    if is_seeded && !cfg!(feature = "seeded-bugs") {
        return Err("bugs can be planted in a build with --features seeded-bugs only".to_owned());
    }
    if arguments.self_test {
        return self_test(arguments).await;
    }
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let mut random = Random::new(seed);
    let folder = TempDir::with_prefix("luge-torture-").map_err(|error| error.to_string())?;
    let bug = arguments.bug.clone();
    let mut torture = Torture::new(arguments, bug, &folder, &mut random)?;
    match torture.run(arguments.cycles, &mut random).await {
        Ok(()) => {
            println!("nothing lost: {}, seed {seed}", torture.line());
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            let kept = folder.keep();
            let (word, story) = match failure {
                Failure::Lost(story) => ("lost", story),
                Failure::Broken(message) => ("broken", vec![message]),
            };
            let history = kept.join("history.txt");
            let cycle = torture.figures.cycles;
            let head = format!("{word} in cycle {cycle}: {}, seed {seed}", torture.line());
            let text = format!("{head}\n{}\n", story.join("\n"));
            std::fs::write(&history, &text).map_err(|error| error.to_string())?;
            println!("{head}");
            for line in story.iter().take(20) {
                println!("  {line}");
            }
            println!(
                "the history is in {}, the data in {}",
                history.display(),
                torture.folder.display()
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Plants each bug, and hunts for it.
async fn self_test(arguments: &Arguments) -> Result<ExitCode, String> {
    let mut missed = Vec::new();
    for bug in FOUND_HERE {
        let began = Instant::now();
        let mut random = Random::new(arguments.seed.unwrap_or_else(fresh_seed));
        let folder = TempDir::with_prefix("luge-torture-").map_err(|error| error.to_string())?;
        let planted = Some(bug.to_owned());
        let mut torture = Torture::new(arguments, planted, &folder, &mut random)?;
        let found = match torture.run(MAX_CYCLES, &mut random).await {
            Err(Failure::Lost(_)) => "found",
            Ok(()) => {
                missed.push(bug);
                "MISSED"
            }
            Err(Failure::Broken(message)) => return Err(format!("{bug}: {message}")),
        };
        let (cycles, seconds) = (torture.figures.cycles, began.elapsed().as_secs_f64());
        println!("{bug}: {found}, {cycles} cycles, {seconds:.1} s");
    }
    if missed.is_empty() {
        println!("all {} bugs were found", FOUND_HERE.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("not found: {}", missed.join(", "));
    Ok(ExitCode::FAILURE)
}

impl Torture {
    /// A run over a folder that is still empty.
    fn new(
        arguments: &Arguments,
        bug: Option<String>,
        folder: &TempDir,
        random: &mut Random,
    ) -> Result<Self, String> {
        let program = Program {
            path: program()?,
            settings: settings(arguments),
            bug,
        };
        let workers = (0..CLIENTS).map(|number| Worker::new(number, random.fork()));
        Ok(Self {
            program,
            folder: folder.path().join("data"),
            workers: workers.collect(),
            identity: Identity::default(),
            figures: Figures::default(),
        })
    }

    async fn run(&mut self, cycles: u64, random: &mut Random) -> Result<(), Failure> {
        let (server, address) = self.start().await?;
        let client = connect(address).await?;
        prepare(&client, &mut self.workers).await?;
        server.kill().await?;
        for cycle in 1..=cycles {
            self.figures.cycles = cycle;
            self.cycle(end(random)).await?;
            if cycle.is_multiple_of(100) {
                println!("{}", self.line());
            }
        }
        let (server, address) = self.start().await?;
        self.verify(address).await?;
        server.stop().await?;
        Ok(())
    }

    /// One life of the server, from its start to its end.
    async fn cycle(&mut self, end: End) -> Result<(), Failure> {
        if let End::KilledStarting(after) = end {
            let server = Server::start(&self.program, &self.folder)?;
            tokio::time::sleep(after).await;
            self.figures.kills += 1;
            return Ok(server.kill().await?);
        }
        let (server, address) = self.start().await?;
        self.verify(address).await?;
        let mut working = JoinSet::new();
        for mut worker in std::mem::take(&mut self.workers) {
            let client = connect(address).await?;
            working.spawn(async move {
                let ended = worker.work(client).await;
                (worker, ended)
            });
        }
        match end {
            End::Stopped(after) => {
                tokio::time::sleep(after).await;
                self.figures.stops += 1;
                server.stop().await?;
            }
            End::Killed(after) | End::KilledStarting(after) => {
                tokio::time::sleep(after).await;
                self.figures.kills += 1;
                server.kill().await?;
            }
        }
        let mut failed = None;
        for (worker, ended) in working.join_all().await {
            self.workers.push(worker);
            failed = failed.or(ended.err());
        }
        self.workers.sort_by_key(|worker| worker.number);
        failed.map_or(Ok(()), |message| Err(Failure::Broken(message)))
    }

    async fn start(&mut self) -> Result<(Server, SocketAddr), Failure> {
        let began = Instant::now();
        let mut server = Server::start(&self.program, &self.folder)?;
        let address = server.ready().await.map_err(|why| match why {
            // What it acknowledged lies in this folder, and a refusal takes all of it away.
            NotReady::Ended(log) if self.figures.restarts > 0 && is_of_the_log(&log) => {
                let refused = format!("the server refuses the folder that it has written:\n{log}");
                Failure::Lost(vec![refused])
            }
            why => Failure::Broken(why.into()),
        })?;
        let took = began.elapsed();
        self.figures.restarts += 1;
        self.figures.restarting += took;
        self.figures.longest = self.figures.longest.max(took);
        Ok((server, address))
    }

    async fn verify(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let client = connect(address).await?;
        let verified = verify(&client, &mut self.workers, &mut self.identity).await;
        verified.map_err(Failure::Lost)
    }

    fn line(&self) -> String {
        let Figures {
            cycles,
            kills,
            stops,
            restarts,
            restarting,
            longest,
        } = &self.figures;
        let workers = self.workers.iter();
        let acknowledged: u64 = workers.map(|worker| worker.ledger.acknowledged()).sum();
        let mean = restarting.checked_div(*restarts).unwrap_or_default();
        format!(
            "{cycles} cycles, {acknowledged} writes acknowledged, {kills} kills, {stops} stops, ready again after {} ms \
             in the mean and {} ms at most",
            mean.as_millis(),
            longest.as_millis()
        )
    }
}

/// Whether a server ended over its log: it is damaged, or does not go on where it should. Whatever else ends one, as a
/// full disk, tells nothing of what was acknowledged.
fn is_of_the_log(said: &str) -> bool {
    ["the log is damaged", "the log in ", "the log segment "]
        .iter()
        .any(|begin| said.contains(begin))
}

/// The settings of the server; the last of a name counts.
fn settings(arguments: &Arguments) -> Vec<String> {
    let durability = format!("durability={}", arguments.durability);
    let small = SMALL.iter().filter(|_| arguments.small);
    let small = small.map(|it| (*it).to_owned());
    let all = [durability].into_iter().chain(small);
    all.chain(arguments.settings.iter().cloned()).collect()
}

/// How the next cycle ends: mostly after a tenth of a second, now and then at once or after seconds.
fn end(random: &mut Random) -> End {
    let microseconds = match random.below(100) {
        0..5 => return End::KilledStarting(Duration::from_micros(random.below(40_000))),
        5..20 => random.below(2_000),
        20..22 => 1_000_000 + random.below(1_500_000),
        _ => random.below(200_000),
    };
    let after = Duration::from_micros(microseconds);
    match random.below(8) {
        0 => End::Stopped(after),
        _ => End::Killed(after),
    }
}

async fn connect(address: SocketAddr) -> Result<Client, Failure> {
    let connected = Client::connect(address).await;
    connected.map_err(|error| Failure::Broken(format!("can't connect: {error}")))
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Broken(message)
    }
}
