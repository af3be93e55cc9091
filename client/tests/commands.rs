//! Every command of the library against a real server.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

use std::time::Duration;

use luge_client::{
    Batch, Client, Condition, ErrorCode, Expiry, Found, IncrReply, OperationReply, PushOptions,
    ScanOptions, SetOptions, SetReply, TimeToLive,
};
use luge_server::testing::start;

#[tokio::test]
async fn values_are_stored_with_versions_that_grow() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    let first = client.set("a", "1").await.unwrap();
    let second = client.set("b", "2").await.unwrap();
    assert!(0 < first && first < second);
    let found = client.get_versioned("b").await.unwrap().unwrap();
    assert_eq!((&found.value[..], found.version), (&b"2"[..], second));
    let values = client.mget(&["b", "none", "a"]).await.unwrap();
    let values: Vec<_> = values
        .iter()
        .map(|found| found.as_ref().map(|found| &found.value[..]))
        .collect();
    assert_eq!(values, [Some(&b"2"[..]), None, Some(b"1")]);
}

#[tokio::test]
async fn a_write_returns_the_value_before_and_keeps_its_condition() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    let version = client.set("k", "old").await.unwrap();
    let options = SetOptions {
        condition: Some(Condition::Version(version)),
        return_old: true,
        ..SetOptions::default()
    };
    let outcome = client.set_with("k", "new", options).await.unwrap();
    assert_eq!(outcome.old.as_deref(), Some(&b"old"[..]));
    let error = client.set_with("k", "newer", options).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::PreconditionFailed));
    let details = error.details().unwrap();
    assert_eq!(details.version, Some(outcome.version));
    assert_eq!(details.key.as_deref(), Some(&b"k"[..]));
}

#[tokio::test]
async fn keys_expire_when_they_were_told_to() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    let hour = Duration::from_secs(3600);
    let options = SetOptions {
        expiry: Expiry::After(hour),
        ..SetOptions::default()
    };
    client.set_with("k", "v", options).await.unwrap();
    let keep = SetOptions {
        expiry: Expiry::Keep,
        ..SetOptions::default()
    };
    client.set_with("k", "w", keep).await.unwrap();
    let TimeToLive::Left(left) = client.ttl("k").await.unwrap() else {
        panic!("the key has an expiry");
    };
    assert!(left <= hour && left > hour / 2);
    assert!(client.persist("k").await.unwrap());
    assert!(!client.persist("k").await.unwrap());
    assert_eq!(client.ttl("k").await.unwrap(), TimeToLive::Forever);
    assert!(client.expire("k", hour).await.unwrap());
    assert!(!client.expire("none", hour).await.unwrap());
    assert_eq!(client.ttl("none").await.unwrap(), TimeToLive::Absent);
}

#[tokio::test]
async fn keys_are_deleted_one_by_one_and_by_ranges_in_steps() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    for number in 0..25 {
        client.set(format!("k{number:02}"), "v").await.unwrap();
    }
    assert_eq!(client.exists(&["k00", "k00", "none"]).await.unwrap(), 2);
    assert_eq!(client.del(&["k00", "none"]).await.unwrap(), 1);
    let mut deleted = 0;
    let mut start = Some(b"k"[..].into());
    while let Some(from) = start {
        let step = client.del_range(from, "l", 10).await.unwrap();
        assert!(step.deleted <= 10);
        deleted += step.deleted;
        start = step.next;
    }
    assert_eq!(deleted, 24);
}

#[tokio::test]
async fn a_scan_gives_every_entry_once_over_any_pages_in_both_directions() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    let keys: Vec<String> = (0..25).map(|number| format!("k{number:02}")).collect();
    for key in &keys {
        client.set(key, key.to_uppercase()).await.unwrap();
    }
    client.set("other", "").await.unwrap();
    for page in [1, 7, 25, 100] {
        let mut options = ScanOptions::prefix("k");
        options.page_entries = Some(page);
        let ascending = client.scan(options.clone()).take(100).await.unwrap();
        assert!(
            ascending.iter().map(|entry| &entry.key).eq(&keys),
            "pages of {page}"
        );
        options.reverse = true;
        let descending = client.scan(options).take(100).await.unwrap();
        assert!(descending.iter().rev().eq(&ascending), "pages of {page}");
    }
    let range = client
        .scan(ScanOptions::range("k03", "k05"))
        .take(100)
        .await
        .unwrap();
    assert_eq!(range.len(), 2);
}

#[tokio::test]
async fn a_batch_happens_wholly_or_not_at_all() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    client.set("gone", "").await.unwrap();
    let batch = Batch::new()
        .check("order", Condition::Absent)
        .set("order", "sled")
        .get("order")
        .incr("orders", 2)
        .del(&["gone", "none"])
        .expire("order", Duration::from_secs(60));
    let replies = client.batch(batch.clone()).await.unwrap();
    let Some(OperationReply::Set(SetReply(version, None))) = replies.get(1) else {
        panic!("not the reply of a set: {replies:?}");
    };
    let expected = [
        OperationReply::Done(()),
        OperationReply::Set(SetReply(*version, None)),
        OperationReply::Get(Some(Found("sled".into(), *version))),
        OperationReply::Incr(IncrReply(Some(2), *version)),
        OperationReply::Count(1),
        OperationReply::Changed(true),
    ];
    assert_eq!(replies, expected);
    let again = Batch::new()
        .set("orders", "0")
        .check("order", Condition::Absent);
    let error = client.batch(again).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::PreconditionFailed));
    assert_eq!(error.details().unwrap().index, Some(1));
    assert_eq!(client.get("orders").await.unwrap().unwrap(), "2");
}

#[tokio::test]
async fn limits_that_the_server_told_are_limits_that_it_keeps() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    let limits = &client.server().limits;
    let bytes = usize::try_from(limits.max_key_bytes).unwrap();
    client.set(vec![b'k'; bytes], "").await.unwrap();
    for (key, code) in [
        (vec![b'k'; bytes + 1], ErrorCode::TooLarge),
        (vec![], ErrorCode::BadRequest),
    ] {
        let error = client.set(key, "").await.unwrap_err();
        assert_eq!(error.code(), Some(code));
    }
    let bytes = usize::try_from(limits.max_value_bytes).unwrap();
    client.set("k", vec![0; bytes]).await.unwrap();
    let error = client.set("k", vec![0; bytes + 1]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TooLarge));
    assert_eq!(client.get("k").await.unwrap().unwrap().len(), bytes);
}

#[tokio::test]
async fn pipelined_requests_happen_in_their_order() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    let (a, b, c) = tokio::join!(
        client.incr("n", 1),
        client.incr("n", 1),
        client.incr("n", 1)
    );
    let numbers = [a, b, c].map(|sum| sum.unwrap().number.unwrap());
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn the_server_answers_ping_info_and_flush() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    client.ping().await.unwrap();
    client.durable().set("k", "v").await.unwrap();
    client
        .deadline(Duration::from_secs(10))
        .get("k")
        .await
        .unwrap();
    client.flush().await.unwrap();
    let info = client.info().await.unwrap();
    assert_eq!(info.store, client.server().store);
    assert!(info.connections >= 1);
}

#[tokio::test]
async fn modules_are_named_when_they_are_missing_or_wrong() {
    let server = start().await;
    let client = Client::connect(server.address()).await.unwrap();
    assert_eq!(client.module_list().await.unwrap(), []);
    for error in [
        client.module_show("none").await.unwrap_err(),
        client.module_remove("none").await.unwrap_err(),
        client.call::<_, ()>("none.run", &()).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), Some(ErrorCode::NotFound));
        assert!(error.to_string().contains("none"), "{error}");
    }
    let options = PushOptions::default();
    let error = client
        .module_push("m", b"\x7fELF", options)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidModule));
}
