//! A server that is killed under load: what was acknowledged is there, and procedures are whole or not
//! there at all. The clients keep a ledger of what they were told.

use std::path::Path;

use luge_client::{Client, Error, LimitsRequest, PushOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::support::{Served, program};

const BANK: &[u8] = include_bytes!("../../../udfs/examples/built/bank.wasm");
const CLIENTS: usize = 4;
const DEPOSIT: i64 = 1_000_000;
const SHARED: [&str; 3] = ["shared-0", "shared-1", "shared-2"];

/// The answers after which each cycle's server is killed.
const ANSWERS: [usize; 5] = [3, 50, 120, 211, 400];

#[derive(Serialize)]
struct Open<'a> {
    account: &'a str,
    deposit: i64,
}

#[derive(Serialize)]
struct Transfer<'a> {
    from: &'a str,
    to: &'a str,
    amount: i64,
}

#[derive(Deserialize)]
struct Receipt {
    to_balance: i64,
}

/// What one client was told. Beyond it, one more of each may have been carried out.
#[derive(Clone, Copy, Debug, Default)]
struct Ledger {
    client: usize,
    /// The value of its own key.
    written: i64,
    /// What it moved from its own account to its own savings.
    moved: i64,
}

#[tokio::test]
async fn a_server_killed_under_load_keeps_what_it_acknowledged_and_half_of_nothing() {
    kill_under_load("always").await;
}

#[tokio::test]
async fn a_server_that_syncs_on_the_clock_and_is_killed_keeps_what_it_acknowledged_too() {
    kill_under_load("everysec").await;
}

async fn kill_under_load(durability: &str) {
    let folder = tempfile::tempdir().unwrap();
    open_accounts(folder.path()).await;
    let mut ledgers: Vec<Ledger> = (0..CLIENTS)
        .map(|client| Ledger {
            client,
            ..Ledger::default()
        })
        .collect();
    for answers in ANSWERS {
        let server = start(folder.path(), durability);
        for ledger in &mut ledgers {
            check(&server.client().await, ledger).await;
        }
        check_sum(&server.client().await).await;
        ledgers = load_and_kill(server, ledgers, answers).await;
    }
    let server = start(folder.path(), durability);
    for ledger in &mut ledgers {
        check(&server.client().await, ledger).await;
        assert!(ledger.written > 0 && ledger.moved > 0, "{ledger:?}");
    }
    check_sum(&server.client().await).await;
}

fn start(folder: &Path, durability: &str) -> Served {
    let folder = folder.to_str().unwrap();
    let mut command = program(["serve", "--listen", "127.0.0.1:0", "--data", folder]);
    command.args(["--durability", durability]);
    Served::start_command(command)
}

async fn open_accounts(folder: &Path) {
    let server = Served::start(folder);
    let client = server.client().await;
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
    client.module_push("bank", BANK, options).await.unwrap();
    let own = (0..CLIENTS).map(|client| (format!("own-{client}"), DEPOSIT));
    let savings = (0..CLIENTS).map(|client| (format!("savings-{client}"), 0));
    let shared = SHARED.map(|account| (account.to_owned(), DEPOSIT));
    for (account, deposit) in own.chain(savings).chain(shared) {
        let open = Open {
            account: &account,
            deposit,
        };
        let balance: i64 = client.call("bank.open", &open).await.unwrap();
        assert_eq!(balance, deposit);
    }
    server.kill();
}

/// Lets all clients write until the server has answered so often, and kills it among their requests.
async fn load_and_kill(server: Served, ledgers: Vec<Ledger>, answers: usize) -> Vec<Ledger> {
    let (told, mut answered) = unbounded_channel();
    let mut clients = JoinSet::new();
    for ledger in ledgers {
        let client = server.client().await;
        clients.spawn(write_until_the_end(client, ledger, told.clone()));
    }
    drop(told);
    for _ in 0..answers {
        answered.recv().await.unwrap();
    }
    tokio::task::spawn_blocking(move || server.kill())
        .await
        .unwrap();
    clients.join_all().await
}

/// Writes, transfers of its own and transfers between shared accounts, at the same time.
async fn write_until_the_end(
    client: Client,
    mut ledger: Ledger,
    told: UnboundedSender<()>,
) -> Ledger {
    let number = ledger.client;
    let (key, own, savings) = (
        format!("key-{number}"),
        format!("own-{number}"),
        format!("savings-{number}"),
    );
    loop {
        let turn = usize::try_from(ledger.moved).unwrap() + number;
        let value = (ledger.written + 1).to_string();
        let (written, moved, shared) = tokio::join!(
            client.set(&key, value),
            transfer(&client, &own, &savings),
            transfer(&client, SHARED[turn % 3], SHARED[(turn + 1) % 3]),
        );
        ledger.written += i64::from(written.is_ok());
        if let Ok(receipt) = &moved {
            ledger.moved += 1;
            assert_eq!(receipt.to_balance, ledger.moved);
        }
        let failures = [written.err(), moved.err(), shared.err()];
        if failures.iter().any(Option::is_some) {
            for failure in failures.into_iter().flatten() {
                let is_the_kill = matches!(failure, Error::Io(_) | Error::Closed);
                assert!(is_the_kill, "{failure}");
            }
            return ledger;
        }
        let _ = told.send(());
    }
}

async fn transfer(client: &Client, from: &str, to: &str) -> Result<Receipt, Error> {
    let transfer = Transfer {
        from,
        to,
        amount: 1,
    };
    client.call("bank.transfer", &transfer).await
}

/// Compares what is stored with the ledger, and brings the ledger up to what was carried out unseen.
async fn check(client: &Client, ledger: &mut Ledger) {
    let number = ledger.client;
    let key = client.get(format!("key-{number}")).await.unwrap();
    let written = key.map_or(0, |value| {
        std::str::from_utf8(&value).unwrap().parse().unwrap()
    });
    let own = balance(client, &format!("own-{number}")).await;
    let moved = balance(client, &format!("savings-{number}")).await;
    let found = format!("{written} written, {moved} moved, {own} left");
    assert!(
        (ledger.written..=ledger.written + 1).contains(&written),
        "{found}: {ledger:?}"
    );
    assert!(
        (ledger.moved..=ledger.moved + 1).contains(&moved),
        "{found}: {ledger:?}"
    );
    assert_eq!(own + moved, DEPOSIT, "half a transfer: {found}");
    (ledger.written, ledger.moved) = (written, moved);
}

async fn check_sum(client: &Client) {
    let mut sum = 0;
    for account in SHARED {
        sum += balance(client, account).await;
    }
    assert_eq!(sum, 3 * DEPOSIT);
}

async fn balance(client: &Client, account: &str) -> i64 {
    client.call("bank.balance", account).await.unwrap()
}
