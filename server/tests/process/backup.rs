//! Backups of a server under traffic, what is made of them, and what a check of a folder finds.

use std::fs;
use std::path::{Path, PathBuf};

use luge_client::{Batch, Client, PushOptions};
use tempfile::TempDir;

use crate::support::{Ended, Served, program, run};

const BANK: &[u8] = include_bytes!("../../../udfs/examples/built/bank.wasm");
const KEYS: usize = 50;

fn check(folder: &Path) -> Ended {
    run(program(["check", folder.to_str().unwrap()]))
}

fn restore(backup: &Path, folder: &Path) -> Ended {
    let (backup, folder) = (backup.to_str().unwrap(), folder.to_str().unwrap());
    run(program(["restore", backup, folder]))
}

/// Moves between keys in batches, so that their sum stays what it is, until the server goes away.
async fn move_about(client: Client) {
    for turn in 0.. {
        let batch = Batch::new()
            .incr(format!("k{}", turn % KEYS), -3)
            .incr(format!("k{}", (turn * 7 + 1) % KEYS), 3);
        if client.batch(batch).await.is_err() {
            return;
        }
    }
}

async fn sum(client: &Client) -> i64 {
    let keys: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
    let values = client.mget(&keys).await.unwrap();
    let number = |value: &[u8]| -> i64 { std::str::from_utf8(value).unwrap().parse().unwrap() };
    values
        .iter()
        .map(|found| number(&found.as_ref().unwrap().value))
        .sum()
}

/// A folder with a backup of a server that was written to meanwhile; and the server's store's id.
async fn backed_up() -> (TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(&folder.path().join("data"));
    let client = server.client().await;
    for key in 0..KEYS {
        client.set(format!("k{key}"), "100").await.unwrap();
    }
    let value = vec![b'v'; 256 << 10];
    for key in 0..8 {
        client.set(format!("large{key}"), &value).await.unwrap();
    }
    let options = PushOptions::default();
    client.module_push("bank", BANK, options).await.unwrap();
    let writers: Vec<_> = [server.client().await, server.client().await]
        .map(|client| tokio::spawn(move_about(client)))
        .into();
    let mut copy = Vec::new();
    client.backup(&mut copy).await.unwrap();
    let file = folder.path().join("backup");
    fs::write(&file, copy).unwrap();
    let id = client.server().store.to_vec();
    server.stop("-TERM");
    for writer in writers {
        writer.await.unwrap();
    }
    (folder, file, id)
}

#[tokio::test]
async fn a_backup_under_traffic_becomes_a_store_of_one_moment() {
    let (folder, backup, id) = backed_up().await;
    let restored = folder.path().join("restored");
    let text = restore(&backup, &restored).prints();
    let next = format!("luge-server serve --data {}\n", restored.display());
    assert!(text.ends_with(&next), "{text}");
    assert!(text.contains("(a new one)"), "{text}");
    let checked = check(&restored).prints();
    assert!(checked.contains("torn tail  none"), "{checked}");
    let server = Served::start(&restored);
    let client = server.client().await;
    assert_eq!(sum(&client).await, 100 * i64::try_from(KEYS).unwrap());
    let large = client.get("large7").await.unwrap().unwrap();
    assert_eq!(large.len(), 256 << 10);
    assert_eq!(client.module_show("bank").await.unwrap().version, 1);
    assert_ne!(client.server().store, id);
    // The data are not taken out of the hands of the store that they are in.
    let again = restore(&backup, &restored);
    again.refuses(&[restored.to_str().unwrap()]);
    check(&restored).refuses(&[restored.to_str().unwrap(), "in use"]);
    client.set("k0", "1").await.unwrap();
    server.stop("-TERM");
    restore(&backup, &restored).refuses(&["is not empty", restored.to_str().unwrap()]);
    let checked = check(&restored).prints();
    assert!(checked.contains(&format!("{} is whole", restored.display())));
}

/// A restore that was killed left a folder that the next server took for a first start, and served
/// empty.
#[tokio::test]
async fn a_restore_that_was_killed_is_no_store_for_anyone() {
    let (folder, backup, _) = backed_up().await;
    let restored = folder.path().join("restored");
    restore(&backup, &restored).prints();
    // As a kill before its last steps leaves it.
    fs::write(restored.join("STATE"), "restoring\n").unwrap();
    for is_named in [true, false] {
        if !is_named {
            fs::rename(restored.join("FORMAT"), restored.join("FORMAT.new")).unwrap();
        }
        let data = restored.to_str().unwrap();
        let serve = run(program(["serve", "--data", data]));
        serve.refuses(&[data, "was interrupted", "delete the folder"]);
        check(&restored).refuses(&[data, "was interrupted", "delete the folder"]);
        restore(&backup, &restored).refuses(&[data, "was interrupted", "delete the folder"]);
    }
    // As a kill after the first step leaves it.
    let begun = folder.path().join("begun");
    fs::create_dir(&begun).unwrap();
    fs::write(begun.join("STATE"), "restoring\n").unwrap();
    let data = begun.to_str().unwrap();
    run(program(["serve", "--data", data])).refuses(&[data, "was interrupted"]);
}

#[tokio::test]
async fn a_damaged_backup_is_refused_before_anything_is_made_of_it() {
    let (folder, backup, _) = backed_up().await;
    let whole = fs::read(&backup).unwrap();
    let damaged = folder.path().join("damaged");
    let target = folder.path().join("target");
    let refused = |bytes: &[u8]| {
        fs::write(&damaged, bytes).unwrap();
        restore(&damaged, &target).refuses(&[damaged.to_str().unwrap()]);
        assert!(!target.exists());
    };
    for at in [0, 20, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        refused(&bytes);
    }
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length]);
    }
    restore(&folder.path().join("none"), &target).refuses(&["none"]);
    assert!(!target.exists());
}

#[tokio::test]
async fn a_check_names_the_place_of_a_damage() {
    let (folder, backup, _) = backed_up().await;
    let restored = folder.path().join("restored");
    restore(&backup, &restored).prints();
    check(&restored).prints();
    let base = fs::read_dir(restored.join("base")).unwrap();
    let base = base.map(|entry| entry.unwrap().path()).max().unwrap();
    let mut bytes = fs::read(&base).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&base, &bytes).unwrap();
    let found = check(&restored);
    found.refuses(&[base.to_str().unwrap()]);
    assert!(found.stderr.contains("byte"), "{}", found.stderr);
    assert_eq!(fs::read(&base).unwrap(), bytes, "a check changes nothing");
    let nothing = tempfile::tempdir().unwrap();
    check(nothing.path()).refuses(&["holds no Luge data"]);
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0);
}
