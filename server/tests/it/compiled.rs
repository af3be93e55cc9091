//! Compiled code on disk: it spares a start the compiler, is never believed without its hash, and may be
//! gone, damaged or exchanged at any time.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use luge_client::{Client, PushOptions};
use luge_server::function::Compiled;
use luge_server::server::COMPILED_FOLDER;
use luge_server::store::embedded::restore;
use luge_server::store::{Commit, PageLimit, ReadPoint, Snapshot, Store, Write};
use luge_server::testing::{TestServer, start_in};
use luge_server::transaction::Keyspace;

use crate::support::{clock, open_embedded, speaker};

/// The files, with what tells that one was written anew.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(folder.join(COMPILED_FOLDER)) else {
        return Vec::new();
    };
    let mut files: Vec<(PathBuf, u64)> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::metadata(path).unwrap().ino()))
        .collect();
    files.sort();
    files
}

async fn start(folder: &Path) -> (TestServer, Client) {
    let server = start_in(folder, |config| config.max_module_versions = 3).await;
    let client = Client::connect(server.address()).await.unwrap();
    (server, client)
}

async fn push(client: &Client, name: &str, word: &str) {
    let options = PushOptions::default();
    client
        .module_push(name, &speaker(word), options)
        .await
        .unwrap();
}

async fn says(client: &Client, name: &str, word: &str) {
    let said = client.call_raw(&format!("{name}.say"), vec![]).await;
    assert_eq!(said.unwrap(), word.repeat(3).as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_takes_what_was_compiled_and_writes_nothing_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = start(folder.path()).await;
    push(&client, "a", "one").await;
    drop((client, server));
    let before = files(folder.path());
    assert_eq!(before.len(), 1);
    let (_server, client) = start(folder.path()).await;
    says(&client, "a", "one").await;
    assert_eq!(files(folder.path()), before);
}

/// The bytes of a file differ from what the store tells: nothing of it is run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_damaged_exchanged_cut_off_or_gone_is_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = start(folder.path()).await;
    push(&client, "a", "one").await;
    let first = files(folder.path()).remove(0).0;
    // Not in force: its hooks would run around the calls of the other.
    let options = PushOptions {
        inactive: true,
        ..PushOptions::default()
    };
    let pushed = client.module_push("b", &speaker("two"), options).await;
    pushed.unwrap();
    drop((client, server));
    let whole = fs::read(&first).unwrap();
    let other = files(folder.path())
        .into_iter()
        .find(|(path, _)| *path != first)
        .unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let damages: [&dyn Fn(); 5] = [
        &|| fs::write(&first, &flipped).unwrap(),
        &|| assert!(fs::copy(&other.0, &first).unwrap() > 0),
        &|| fs::write(&first, &whole[..whole.len() / 2]).unwrap(),
        &|| fs::write(&first, b"").unwrap(),
        &|| fs::remove_file(&first).unwrap(),
    ];
    for damage in damages {
        damage();
        let (server, client) = start(folder.path()).await;
        says(&client, "a", "one").await;
        drop((client, server));
        assert_eq!(fs::read(&first).unwrap(), whole);
        assert!(files(folder.path()).contains(&other));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_may_be_deleted_under_a_running_server_and_a_write_that_fails_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = folder.path().join(COMPILED_FOLDER);
    let (_server, client) = start(folder.path()).await;
    push(&client, "a", "one").await;
    fs::remove_dir_all(&compiled).unwrap();
    says(&client, "a", "one").await;
    push(&client, "a", "two").await;
    assert_eq!(files(folder.path()).len(), 1);
    assert_eq!(client.module_rollback("a").await.unwrap().version, 1);
    says(&client, "a", "one").await;
    assert_eq!(files(folder.path()).len(), 2);
    fs::remove_dir_all(&compiled).unwrap();
    fs::write(&compiled, "a file in the place of the folder").unwrap();
    push(&client, "a", "six").await;
    says(&client, "a", "six").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_what_is_no_longer_kept_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = start(folder.path()).await;
    for word in ["one", "two", "six", "ten", "new"] {
        push(&client, "a", word).await;
    }
    assert_eq!(files(folder.path()).len(), 3);
    push(&client, "b", "new").await;
    client.module_remove("a").await.unwrap();
    assert_eq!(files(folder.path()).len(), 1);
    let compiled = folder.path().join(COMPILED_FOLDER);
    fs::write(compiled.join("writing-7"), "what a kill cut off").unwrap();
    fs::write(compiled.join(format!("{}-00", "ab".repeat(32))), "").unwrap();
    drop((client, server));
    let (_server, client) = start(folder.path()).await;
    says(&client, "b", "new").await;
    assert_eq!(files(folder.path()).len(), 1);
}

/// Changes what the store tells of the one compiled form that there is.
async fn change_record(folder: &Path, change: impl Fn(&mut Compiled)) {
    let store = open_embedded(folder, clock());
    let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
    let range = Keyspace::Modules.range(&[4], &[5]);
    let limit = PageLimit {
        rows: 10,
        bytes: usize::MAX,
    };
    let page = snapshot.scan(&range, false, false, limit).await.unwrap();
    let [(key, entry)] = &page.rows[..] else {
        panic!("{} records", page.rows.len())
    };
    let mut record: Compiled = rmp_serde::from_slice(&entry.value).unwrap();
    change(&mut record);
    let put = Write::Put {
        value: rmp_serde::to_vec_named(&record).unwrap().into(),
        expires_ms: 0,
    };
    let commit = Commit {
        writes: vec![(key.clone(), put)],
        durable: true,
        ..Commit::default()
    };
    store.commit(snapshot, commit).await.unwrap();
    store.close().await.unwrap();
}

/// Another release of the server, or one with other settings, has left its record; the file is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_tells_of_another_engine_is_compiled_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = start(folder.path()).await;
    push(&client, "a", "one").await;
    drop((client, server));
    let before = files(folder.path());
    change_record(folder.path(), |record| record.engine[0] ^= 1).await;
    let (server, client) = start(folder.path()).await;
    says(&client, "a", "one").await;
    drop((client, server));
    let after = files(folder.path());
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
    let (_server, client) = start(folder.path()).await;
    says(&client, "a", "one").await;
    assert_eq!(files(folder.path()), after);
}

/// A backup has what tells the compiled form, and not the form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_compiled_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = start(folder.path()).await;
    push(&client, "a", "one").await;
    let mut backup = Vec::new();
    client.backup(&mut backup).await.unwrap();
    drop((client, server));
    let restored = folder.path().join("restored");
    fs::write(folder.path().join("copy"), backup).unwrap();
    restore(&folder.path().join("copy"), &restored, [9; 16]).unwrap();
    assert_eq!(files(&restored), []);
    let (server, client) = start(&restored).await;
    says(&client, "a", "one").await;
    drop((client, server));
    let written = files(&restored);
    assert_eq!(written.len(), 1);
    let (_server, client) = start(&restored).await;
    says(&client, "a", "one").await;
    assert_eq!(files(&restored), written);
}
