//! Watches and backups by the library: against a real server, and against one that does what it should
//! not.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod fake;

use fake::{Peer, connected};
use luge_client::{
    Batch, ChangeKind, Client, Commit, Error, ErrorCode, ErrorDetails, KeyChange, WatchOptions,
};
use luge_protocol::{Reply, WatchEvent};

fn keys(commit: &Commit) -> Vec<&[u8]> {
    commit
        .changes
        .iter()
        .map(|change| &change.key[..])
        .collect()
}

fn event(sequence: u64, key: &'static [u8], value: usize, more: bool) -> Reply {
    let change = KeyChange {
        key: key.into(),
        change: ChangeKind::Set,
        value: Some(vec![b'v'; value].into()),
        expires_ms: Some(0),
    };
    Reply::Event(WatchEvent {
        sequence,
        changes: vec![change],
        more,
    })
}

/// Begins a watch with a server that a test plays.
async fn watched() -> (Client, Peer, luge_client::Watch, u64) {
    let (client, mut peer) = connected().await;
    let begin = async {
        let (id, name) = peer.next().await;
        assert_eq!(name, "watch");
        peer.reply(id, Reply::Event(WatchEvent::progress(4))).await;
        id
    };
    let (watch, id) = tokio::join!(client.watch("k", WatchOptions::default()), begin);
    let watch = watch.unwrap();
    assert_eq!(watch.sequence(), 4);
    (client, peer, watch, id)
}

#[tokio::test]
async fn a_commit_larger_than_an_event_arrives_as_one() {
    let server = luge_server::testing::start().await;
    let client = Client::connect(server.address()).await.unwrap();
    let mut watch = client.watch("k", WatchOptions::default()).await.unwrap();
    let value = vec![b'v'; 700 << 10];
    let keys_of_one = ["k1", "k2", "k3", "k4"];
    let batch = keys_of_one
        .iter()
        .fold(Batch::new(), |batch, key| batch.set(key, &value));
    let batch = batch.set("other", "x");
    client.batch(batch).await.unwrap();
    client.del(&["k2", "other"]).await.unwrap();
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(keys(&first), [b"k1", b"k2", b"k3", b"k4"]);
    assert!(
        first
            .changes
            .iter()
            .all(|it| it.value.as_ref() == Some(&value.clone().into()))
    );
    let second = watch.next().await.unwrap().unwrap();
    assert_eq!(second.changes[0].change, ChangeKind::Del);
    assert!(second.sequence > first.sequence);
    assert_eq!(watch.sequence(), second.sequence);
    let options = WatchOptions {
        from: Some(first.sequence),
        keys_only: true,
    };
    let mut again = client.watch("k", options).await.unwrap();
    let commit = again.next().await.unwrap().unwrap();
    assert_eq!(keys(&commit), keys(&first));
    assert_eq!(commit.changes[0].value, None);
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_watch_that_is_dropped_gives_its_place_back() {
    let server = luge_server::testing::start_with(|config| config.max_streams = 1).await;
    let client = Client::connect(server.address()).await.unwrap();
    for _ in 0..3 {
        let watch = loop {
            match client.watch("", WatchOptions::default()).await {
                Ok(watch) => break watch,
                // The one before is being stopped.
                Err(error) => assert_eq!(error.code(), Some(ErrorCode::Overloaded)),
            }
        };
        client.set("k", "v").await.unwrap();
        drop(watch);
    }
    client.ping().await.unwrap();
}

#[tokio::test]
async fn watches_outlast_the_bound_on_requests_and_hold_none_up() {
    let server = luge_server::testing::start().await;
    let builder = Client::builder().max_requests_in_flight(1);
    let client = builder.connect(server.address()).await.unwrap();
    let mut watches = Vec::new();
    for _ in 0..16 {
        watches.push(client.watch("", WatchOptions::default()).await.unwrap());
    }
    let refused = client.watch("", WatchOptions::default()).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::Overloaded));
    for number in 0..50 {
        client.set("k", number.to_string()).await.unwrap();
    }
    for watch in &mut watches {
        for number in 0..50 {
            let commit = watch.next().await.unwrap().unwrap();
            let value = commit.changes[0].value.clone().unwrap();
            assert_eq!(value, number.to_string());
        }
    }
}

#[tokio::test]
async fn a_watch_that_is_not_read_ends_and_holds_nothing_up() {
    let (client, mut peer, mut watch, id) = watched().await;
    for sequence in 5..25 {
        peer.reply(id, event(sequence, b"k", 1 << 20, false)).await;
    }
    // A response behind all of them.
    let ping = async {
        let (id, _) = peer.next().await;
        peer.reply(id, Reply::Pong("pong")).await;
    };
    let (pong, ()) = tokio::join!(client.ping(), ping);
    pong.unwrap();
    let mut last = 4;
    let error = loop {
        match watch.next().await {
            Ok(commit) => last = commit.unwrap().sequence,
            Err(error) => break error,
        }
    };
    assert!(last < 24, "all of it was kept");
    assert!(matches!(error, Error::Behind { from } if from == last + 1));
    assert_eq!(error.resume_from(), Some(last + 1));
    drop(watch);
    assert_eq!(peer.next().await.1, "stop");
}

#[tokio::test]
async fn the_end_of_a_watch_says_where_to_go_on() {
    let (_client, mut peer, mut watch, id) = watched().await;
    peer.reply(id, event(5, b"k1", 1, true)).await;
    peer.reply(id, event(5, b"k2", 1, false)).await;
    peer.reply(id, Reply::Event(WatchEvent::progress(9))).await;
    peer.reply(id, event(10, b"k3", 1, true)).await;
    let details = ErrorDetails {
        sequence: Some(10),
        ..ErrorDetails::default()
    };
    peer.fail(id, ErrorCode::Overloaded, details).await;
    let commit = watch.next().await.unwrap().unwrap();
    assert_eq!(keys(&commit), [b"k1", b"k2"]);
    let error = watch.next().await.unwrap_err();
    assert_eq!(error.resume_from(), Some(10));
    assert_eq!(watch.sequence(), 9);
    assert_eq!(watch.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_watches() {
    let (_client, peer, mut watch, _) = watched().await;
    drop(peer);
    let error = watch.next().await.unwrap_err();
    assert!(matches!(error, Error::Closed | Error::Io(_)), "{error}");
    assert_eq!(watch.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_watch_that_is_stopped_tells_nothing_more() {
    let (client, mut peer, watch, id) = watched().await;
    let server = async {
        let (stop, name) = peer.next().await;
        assert_eq!(name, "stop");
        peer.reply(id, event(5, b"k", 1, false)).await;
        peer.reply(stop, Reply::Done(())).await;
        peer.reply(id, Reply::Done(())).await;
        let (ping, _) = peer.next().await;
        peer.reply(ping, Reply::Pong("pong")).await;
    };
    let stop = async {
        watch.stop().await.unwrap();
        client.ping().await.unwrap();
    };
    tokio::join!(stop, server);
}

#[tokio::test]
async fn a_backup_is_whole_or_an_error() {
    let (client, mut peer) = connected().await;
    let server = async {
        let (id, name) = peer.next().await;
        assert_eq!(name, "backup");
        for piece in ["", "one ", "two"] {
            peer.reply(id, Reply::Piece(piece.into())).await;
        }
        peer.reply(id, Reply::Done(())).await;
        let (id, _) = peer.next().await;
        peer.reply(id, Reply::Piece("one ".into())).await;
        peer.fail(id, ErrorCode::Storage, ErrorDetails::default())
            .await;
    };
    let backups = async {
        let mut copy = Vec::new();
        assert_eq!(client.backup(&mut copy).await.unwrap(), 7);
        assert_eq!(copy, b"one two");
        let error = client.backup(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::Storage));
    };
    tokio::join!(server, backups);
}

#[tokio::test]
async fn a_backup_larger_than_every_buffer_arrives() {
    let server = luge_server::testing::start().await;
    let client = Client::connect(server.address()).await.unwrap();
    let value = vec![b'v'; 1 << 20];
    for key in 0..12 {
        client.set(key.to_string(), &value).await.unwrap();
    }
    let mut copy = Vec::new();
    let (bytes, pong) = tokio::join!(client.backup(&mut copy), client.ping());
    pong.unwrap();
    assert_eq!(bytes.unwrap(), copy.len() as u64);
    assert!(copy.len() > 12 << 20);
}
