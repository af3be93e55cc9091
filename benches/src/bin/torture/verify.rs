//! A look at everything that a restarted server has, and whether it is what the ledgers say.

use std::collections::BTreeMap;

use luge_benches::torture::ledger::Found;
use luge_benches::torture::{Ledger, State, Write};
use luge_client::{Client, Error, LimitsRequest, PushOptions, ScanOptions};
use serde::Serialize;

use crate::load::{DEPOSIT, EXTRA, SHARED, Worker};

const BANK: &[u8] = include_bytes!("../../../../udfs/examples/built/bank.wasm");

/// What stays the same over restarts, or only grows.
#[derive(Default)]
pub(crate) struct Identity {
    store: Option<Vec<u8>>,
    sequence: u64,
}

#[derive(Serialize)]
struct Open<'a> {
    account: &'a str,
    deposit: i64,
}

/// Pushes the bank and opens all accounts.
pub(crate) async fn prepare(client: &Client, workers: &mut [Worker]) -> Result<(), String> {
    // A busy machine should not end a transfer before the kill does.
    let limits = LimitsRequest {
        cpu_ms: Some(5_000),
        deadline_ms: Some(30_000),
        ..LimitsRequest::default()
    };
    let options = PushOptions {
        limits,
        ..PushOptions::default()
    };
    let pushed = client.module_push("bank", BANK, options).await;
    pushed.map_err(|error| format!("the bank was refused: {error}"))?;
    for account in SHARED {
        open(client, account, DEPOSIT).await?;
    }
    for worker in workers {
        for (account, deposit) in worker.accounts().iter().zip([DEPOSIT, 0]) {
            open(client, account, deposit).await?;
            let changes = vec![(format!("bank:{account}"), State::Number(deposit))];
            let text = format!("open {account}");
            acknowledged(&mut worker.ledger, Write { text, changes });
        }
    }
    Ok(())
}

fn acknowledged(ledger: &mut Ledger, write: Write) {
    ledger.send(write);
    ledger.acknowledge(None);
}

async fn open(client: &Client, account: &str, deposit: i64) -> Result<(), String> {
    let balance: Result<i64, Error> = client.call("bank.open", &Open { account, deposit }).await;
    balance
        .map(|_| ())
        .map_err(|error| format!("{account} can't be opened: {error}"))
}

/// Compares all that is stored with what was told; the sentences say what is wrong.
pub(crate) async fn verify(
    client: &Client,
    workers: &mut [Worker],
    identity: &mut Identity,
) -> Result<(), Vec<String>> {
    let failed = |error: Error| vec![format!("a look at what is stored failed: {error}")];
    check_identity(client, identity).await?;
    check_shared(client).await?;
    let modules = client.module_list().await.map_err(failed)?;
    if !modules.iter().any(|module| module.name == "bank") {
        return Err(vec!["the module bank is gone".to_owned()]);
    }
    let balance = client.call("bank.balance", SHARED.first().unwrap_or(&""));
    let _: i64 = balance.await.map_err(failed)?;
    let has_extra = modules.iter().any(|module| module.name == "extra");
    if has_extra {
        let answer: u32 = client.call("extra.answer", &()).await.map_err(failed)?;
        if answer != 42 {
            return Err(vec![format!("extra.answer answered {answer}, and not 42")]);
        }
    }
    let mut wrong = Vec::new();
    for worker in workers {
        let mut found = stored(client, worker).await.map_err(failed)?;
        if has_extra && worker.number == 0 {
            found.insert(EXTRA.to_owned(), (b"1".to_vec(), 1));
        }
        let newest = found.values().map(|(_, version)| *version).max();
        identity.sequence = identity.sequence.max(newest.unwrap_or(0));
        if let Err(loss) = worker.ledger.settle(&found) {
            wrong.push(format!("connection {}:", worker.number));
            wrong.extend(loss.story);
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong),
    }
}

async fn check_identity(client: &Client, identity: &mut Identity) -> Result<(), Vec<String>> {
    let store = client.server().store.to_vec();
    let before = identity.store.get_or_insert_with(|| store.clone());
    if *before != store {
        return Err(vec![format!(
            "the store's id is {store:?}, and was {before:?}"
        )]);
    }
    let info = client.info().await;
    let sequence = info.map_err(|error| vec![error.to_string()])?.sequence;
    if sequence < identity.sequence {
        let before = identity.sequence;
        return Err(vec![format!(
            "the newest sequence is {sequence}, and {before} was told before"
        )]);
    }
    identity.sequence = sequence;
    Ok(())
}

async fn check_shared(client: &Client) -> Result<(), Vec<String>> {
    let keys = SHARED.map(|account| format!("bank:{account}"));
    let found = client.mget(&keys).await;
    let found = found.map_err(|error| vec![error.to_string()])?;
    let mut sum = 0;
    for (key, found) in keys.iter().zip(found) {
        let text = found.map(|found| String::from_utf8_lossy(&found.value).into_owned());
        match text.as_deref().map(str::parse::<i64>) {
            Some(Ok(balance)) => sum += balance,
            _ => return Err(vec![format!("{key} holds {text:?}, and no balance")]),
        }
    }
    let expected = DEPOSIT * SHARED.len() as i64;
    if sum != expected {
        return Err(vec![format!(
            "the shared accounts hold {sum} together, and should hold {expected}"
        )]);
    }
    Ok(())
}

/// Everything that one connection has written.
async fn stored(client: &Client, worker: &Worker) -> Result<BTreeMap<String, Found>, Error> {
    let mut found = BTreeMap::new();
    for kind in ["k", "c"] {
        let mut scan = client.scan(ScanOptions::prefix(format!("{kind}:{}:", worker.number)));
        while let Some(entry) = scan.next().await? {
            let key = String::from_utf8_lossy(&entry.key).into_owned();
            found.insert(key, (entry.value.to_vec(), entry.version));
        }
    }
    for account in worker.accounts() {
        let key = format!("bank:{account}");
        if let Some(balance) = client.get_versioned(&key).await? {
            found.insert(key, (balance.value.to_vec(), balance.version));
        }
    }
    Ok(found)
}
