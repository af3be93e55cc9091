//! A round: clients at work on keys of their own, then a look at what is left, then the check.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use luge_benches::histories::{Anomaly, Figures, History, Operation, Outcome, Read, Seen, check};
use luge_benches::random::Random;
use luge_client::{Client, Error, LimitsRequest, PushOptions, ScanOptions};
use luge_server::config::Config;
use luge_server::testing::{self, TestServer};

use crate::client::{self, Notes};
use crate::program;
use crate::workload::{Chooser, FIRST_NUMBER, Round};
use crate::{Setup, Store};

const GUEST: &str = include_str!("guest.wat");

const METADATA: [&str; 5] = [
    r#"{"procedure": "run"}"#,
    r#"{"procedure": "peek", "read_only": true}"#,
    r#"{"hook": "audit", "phase": "request", "commands": ["set"], "prefix": "h:", "order": 0}"#,
    r#"{"hook": "ghost", "phase": "request", "commands": ["set"], "prefix": "h:", "order": 1, "on_failure": "continue"}"#,
    r#"{"hook": "echo", "phase": "response", "commands": ["set"], "prefix": "h:"}"#,
];

/// A server, and the connections that work on it.
pub(crate) struct Run {
    server: TestServer,
    notes: Vec<Arc<Notes>>,
    random: Random,
    rounds: u64,
    next_number: u64,
}

/// What a round found.
pub(crate) struct Checked {
    pub(crate) history: History,
    pub(crate) verdict: Result<Figures, Anomaly>,
}

impl Run {
    /// Starts a server with the guest, and connects.
    pub(crate) async fn start(setup: Setup, clients: usize, seed: u64) -> Result<Self, Error> {
        let server = match setup.store {
            Store::Sled => testing::start_with(|config| configure(config, setup)).await,
            Store::Memory => testing::start_in_memory().await,
        };
        let began = Instant::now();
        let mut notes = Vec::new();
        for connection in 0..clients {
            let client = Client::connect(server.address()).await?;
            notes.push(Arc::new(Notes {
                client,
                connection,
                began,
                retries: AtomicU64::new(0),
            }));
        }
        let run = Self {
            server,
            notes,
            random: Random::new(seed),
            rounds: 0,
            next_number: FIRST_NUMBER,
        };
        run.push_guest().await?;
        Ok(run)
    }

    async fn push_guest(&self) -> Result<(), Error> {
        let metadata = METADATA.join("\n");
        let escaped = metadata.replace('"', "\\\"").replace('\n', "\\n");
        let guest = GUEST
            .replace("METADATA", &escaped)
            .replace("LENGTH", &metadata.len().to_string());
        // A busy machine should not end a call before its work is done.
        let limits = LimitsRequest {
            fuel: Some(5_000_000_000),
            cpu_ms: Some(2_000),
            deadline_ms: Some(20_000),
            ..LimitsRequest::default()
        };
        let options = PushOptions {
            limits,
            ..PushOptions::default()
        };
        let client = Client::connect(self.server.address()).await?;
        client
            .module_push("hunt", guest.as_bytes(), options)
            .await?;
        Ok(())
    }

    /// Attempts beyond the first, as procedures saw them.
    pub(crate) fn retries(&self) -> u64 {
        let retries = self
            .notes
            .iter()
            .map(|it| it.retries.load(Ordering::Relaxed));
        retries.sum()
    }

    /// So many transactions on fresh keys, checked.
    pub(crate) async fn round(&mut self, transactions: u64) -> Result<Checked, Error> {
        self.rounds += 1;
        let round = Arc::new(Round::new(self.rounds, self.next_number, transactions));
        let mut working = Vec::new();
        for notes in &self.notes {
            let (round, notes) = (Arc::clone(&round), Arc::clone(notes));
            let random = self.random.fork();
            working.push(tokio::spawn(work(round, notes, random)));
        }
        let mut history = History::default();
        for client in working {
            let operations = client.await.expect("a client's task does not panic");
            history.operations.extend(operations);
        }
        let first = self.next_number;
        self.next_number = round.number();
        let lost = self.settle(&round, first, &mut history).await?;
        let verdict = match lost {
            Some(anomaly) => Err(anomaly),
            None => check(&history),
        };
        Ok(Checked { history, verdict })
    }

    /// Looks at what the round left: the witnesses tell what has happened, and when.
    async fn settle(
        &self,
        round: &Round,
        first: u64,
        history: &mut History,
    ) -> Result<Option<Anomaly>, Error> {
        let server = self.server.address();
        let client = Client::connect(server).await?;
        let began = self.notes.first().map(|notes| notes.began);
        let now = || {
            let since = began.map_or(0, |began| began.elapsed().as_nanos());
            u64::try_from(since).unwrap_or(u64::MAX)
        };
        let witnesses = format!("w:{}:", round.number);
        let hooked = ScanOptions::range(format!("v:{first}"), "v:~");
        let mut seen = versions(&client, ScanOptions::prefix(witnesses)).await?;
        seen.extend(versions(&client, hooked).await?);
        let mut lost = None;
        for operation in &mut history.operations {
            if let Some(anomaly) = place(operation, &seen) {
                lost.get_or_insert(anomaly);
            }
        }
        let mut last = Operation::done("a look at everything", now(), 0);
        last.connection = self.notes.len();
        let keys = round.keys();
        let found = client.mget(&keys).await?;
        for (key, found) in keys.iter().zip(found) {
            let seen = program::seen(found.as_ref().map(|found| &found.value[..]));
            let version = found.map(|found| found.version);
            let read = Read::point(key, seen.unwrap_or(Seen::Absent)).at(version);
            last.reads.push(read);
        }
        last.completed = now();
        history.operations.push(last);
        Ok(lost)
    }
}

/// With small bounds, folds, evictions, reads of the index, segments and bases come by the dozen a
/// second.
fn configure(config: &mut Config, setup: Setup) {
    config.durability = setup.durability;
    if setup.has_small_bounds {
        config.sled_cache_bytes = 1 << 20;
        // A part of it has room for four entries or so, and takes none that is larger than a quarter.
        config.cache_bytes = 96 << 10;
        config.max_unfolded_bytes = 256 << 10;
        config.fold_log_bytes = 16 << 10;
        config.log_segment_bytes = 32 << 10;
        config.base_log_bytes = 128 << 10;
        config.max_kept_log_bytes = 1 << 20;
    }
}

async fn work(round: Arc<Round>, notes: Arc<Notes>, random: Random) -> Vec<Operation> {
    let mut done: Vec<Operation> = Vec::new();
    let mut chooser = Chooser {
        round: &round,
        random,
        known: HashMap::new(),
    };
    loop {
        let tasks = chooser.next();
        if !round.take(tasks.len() as u64) {
            return done;
        }
        let operations = client::pipeline(&notes, tasks).await;
        for read in operations.iter().flat_map(|operation| &operation.reads) {
            let version = read.version.unwrap_or(0);
            if version != 0 || read.seen == Seen::Absent {
                chooser.known.insert(read.key.clone(), (read.seen, version));
            }
        }
        let is_lost = operations.iter().any(|it| it.outcome == Outcome::Unknown);
        done.extend(operations);
        if is_lost {
            return done;
        }
    }
}

async fn versions(client: &Client, options: ScanOptions) -> Result<HashMap<String, u64>, Error> {
    let mut found = HashMap::new();
    let options = ScanOptions {
        page_entries: Some(1_000),
        ..options
    };
    let mut scan = client.scan(options);
    while let Some(entry) = scan.next().await? {
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        found.insert(key, entry.version);
    }
    Ok(found)
}

/// Gives an operation the sequence that its witness tells. One that was acknowledged has to have left
/// it, one that was refused must not have.
fn place(operation: &mut Operation, witnesses: &HashMap<String, u64>) -> Option<Anomaly> {
    let mut keys = operation.writes.iter().map(|write| &write.key);
    let key = keys.find(|key| key.starts_with("w:") || key.starts_with("v:"))?;
    let sequence = witnesses.get(key).copied();
    let (key, told) = (key.clone(), operation.sequence);
    let wrong = |name, what: &str| {
        let story = vec![operation.to_string(), format!("{key} {what}")];
        Some(Anomaly::new(name, story))
    };
    match (operation.outcome, sequence) {
        (Outcome::Done, None) => wrong("lost write", "is not there, though it was acknowledged"),
        (Outcome::Refused, Some(_)) => {
            wrong("write of a refusal", "is there, though it was refused")
        }
        (Outcome::Done, Some(sequence)) if told.is_some_and(|told| told != sequence) => wrong(
            "torn commit",
            &format!("was written by the commit {sequence}"),
        ),
        (Outcome::Unknown, None) => {
            // Every client is done by now, and so is the server with what they asked for.
            operation.outcome = Outcome::Refused;
            None
        }
        _ => {
            operation.sequence = sequence.or(told);
            None
        }
    }
}
