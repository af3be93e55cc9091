//! The library against servers that answer late, out of order, too much, nonsense, or not at all.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod fake;

use std::time::Duration;

use fake::{Peer, connected, connected_with, hello_reply, parts, try_connect};
use luge_client::{
    Batch, Client, Command, Condition, Error, ErrorCode, ErrorDetails, Found, IncrReply,
    OperationReply, ScanOptions, SetReply,
};
use luge_protocol::{CallReply, Reply, ScanEntry, ScanReply};
use serde::{Deserialize, Serialize};

fn found(value: &'static str) -> Reply {
    Reply::Get(Some(Found(value.into(), 1)))
}

#[tokio::test]
async fn the_first_request_offers_version_1_and_names_the_client() {
    let builder = Client::builder().name("billing");
    let (client, _peer) = try_connect(&builder, async |peer| {
        let body = peer.receive().await.unwrap();
        let (id, command) = parts(&body);
        let Command::Hello(hello) = command else {
            panic!("not a hello");
        };
        assert_eq!(hello.versions, [1]);
        assert_eq!(hello.client.as_deref(), Some("billing"));
        peer.reply(id, Reply::Hello(Box::new(hello_reply(1 << 20))))
            .await;
    })
    .await;
    assert_eq!(client.unwrap().server().server, "fake");
}

#[tokio::test]
async fn the_first_request_carries_the_token_which_no_debug_form_shows() {
    let builder = Client::builder().token("open-sesame");
    let (client, _peer) = try_connect(&builder, async |peer| {
        let body = peer.receive().await.unwrap();
        let (id, command) = parts(&body);
        let Command::Hello(hello) = command else {
            panic!("not a hello");
        };
        assert_eq!(hello.credentials.unwrap().reveal(), "open-sesame");
        peer.reply(id, Reply::Hello(Box::new(hello_reply(1 << 20))))
            .await;
    })
    .await;
    let shown = format!("{builder:?} {:?}", client.unwrap());
    assert!(!shown.contains("sesame"), "{shown}");
}

#[tokio::test]
async fn requests_are_under_way_together_and_responses_find_theirs_in_any_order() {
    let (client, mut peer) = connected().await;
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.get(format!("key{number}")).await })
        })
        .collect();
    let mut requests = Vec::new();
    for _ in 0..200 {
        let body = peer.receive().await.unwrap();
        let (id, command) = parts(&body);
        let Command::Get(get) = command else {
            panic!("not a get");
        };
        requests.push((id, get.key.to_vec()));
    }
    for (id, key) in requests.into_iter().rev() {
        peer.reply(id, Reply::Get(Some(Found(key.into(), 1)))).await;
    }
    for (number, task) in tasks.into_iter().enumerate() {
        let value = task.await.unwrap().unwrap().unwrap();
        assert_eq!(value, format!("key{number}"));
    }
}

#[tokio::test]
async fn no_more_requests_are_sent_than_may_be_in_flight() {
    let builder = Client::builder().max_requests_in_flight(2);
    let (client, mut peer) = connected_with(&builder).await;
    let requests = async { tokio::join!(client.get("a"), client.get("b"), client.get("c")) };
    let server = async {
        let (first, _) = peer.next().await;
        let (second, _) = peer.next().await;
        let third = tokio::time::timeout(Duration::from_millis(50), peer.next()).await;
        assert!(third.is_err(), "the third waits");
        peer.reply(first, found("1")).await;
        let (third, _) = peer.next().await;
        peer.reply(second, found("2")).await;
        peer.reply(third, found("3")).await;
    };
    let ((a, b, c), ()) = tokio::join!(requests, server);
    assert_eq!(
        [a, b, c].map(|value| value.unwrap().unwrap()),
        ["1", "2", "3"]
    );
}

#[tokio::test]
async fn a_request_times_out_alone_and_its_late_response_disturbs_nobody() {
    let builder = Client::builder().request_timeout(Duration::from_millis(50));
    let (client, mut peer) = connected_with(&builder).await;
    let error = client.get("slow").await.unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error}");
    let (late, _) = peer.next().await;
    let server = async {
        let (id, _) = peer.next().await;
        peer.reply(late, found("late")).await;
        peer.reply(id, found("quick")).await;
    };
    let (value, ()) = tokio::join!(client.get("quick"), server);
    assert_eq!(value.unwrap().unwrap(), "quick");
}

#[tokio::test]
async fn a_server_that_does_not_greet_is_given_up() {
    let builder = Client::builder().connect_timeout(Duration::from_millis(50));
    let (client, _peer) = try_connect(&builder, async |_| {}).await;
    let error = client.unwrap_err();
    assert_eq!(error.to_string(), "no answer within 50 ms");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::connect(address).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no connection to {address}"));
}

#[tokio::test]
async fn a_server_that_closes_is_told_to_all_who_wait_and_all_who_come() {
    let (client, mut peer) = connected().await;
    let server = async {
        peer.next().await;
        peer.next().await;
        drop(peer);
    };
    let (a, b, ()) = tokio::join!(client.get("a"), client.get("b"), server);
    for outcome in [a, b, client.get("c").await] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Closed | Error::Io(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_error_about_the_connection_is_told_to_all_who_wait() {
    let (client, mut peer) = connected().await;
    let server = async {
        peer.next().await;
        peer.fail(0, ErrorCode::Unavailable, ErrorDetails::default())
            .await;
    };
    let (outcome, ()) = tokio::join!(client.get("a"), server);
    for error in [outcome.unwrap_err(), client.get("b").await.unwrap_err()] {
        assert!(matches!(error, Error::Ended(_)), "{error:?}");
        assert_eq!(error.code(), Some(ErrorCode::Unavailable));
    }
}

#[tokio::test]
async fn a_server_that_is_full_says_so_when_one_connects() {
    let (client, _peer) = try_connect(&Client::builder(), async |peer| {
        peer.fail(0, ErrorCode::Overloaded, ErrorDetails::default())
            .await;
    })
    .await;
    assert_eq!(client.unwrap_err().code(), Some(ErrorCode::Overloaded));
}

#[tokio::test]
async fn another_protocol_is_recognised() {
    let (client, _peer) = try_connect(&Client::builder(), async |peer| {
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let expected = "the server broke the protocol: it does not speak Luge's protocol: \
                    its first bytes are \"HTTP\"";
    assert_eq!(client.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn a_version_that_was_not_offered_is_refused() {
    let (client, _peer) = try_connect(&Client::builder(), async |peer| {
        let (id, _) = peer.next().await;
        let mut hello = hello_reply(1 << 20);
        hello.version = 2;
        peer.reply(id, Reply::Hello(Box::new(hello))).await;
    })
    .await;
    assert!(matches!(client, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn a_request_over_the_server_s_limit_is_not_sent() {
    let builder = Client::builder();
    let (client, mut peer) = try_connect(&builder, async |peer| peer.greet(100).await).await;
    let client = client.unwrap();
    let error = client.set("key", vec![0; 200]).await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 100, .. }),
        "{error}"
    );
    let server = async {
        let (id, name) = peer.next().await;
        assert_eq!(name, "ping", "the set was not sent");
        peer.reply(id, Reply::Pong("pong")).await;
    };
    let (pong, ()) = tokio::join!(client.ping(), server);
    pong.unwrap();
}

#[tokio::test]
async fn nonsense_from_the_server_is_an_error_and_never_a_panic() {
    for bytes in [
        &b"\xff\xff\xff\xff"[..],
        b"\0\0\0\0",
        b"\0\0\0\x01\xc1",
        b"\0\0\0\x04\x92\x63\x81\xa2",
        b"\0\0\0\x06\x92\0\x81\xa2ok",
        b"\0\0\0\x07\x92\x02\x81\xa2ok\xc1",
        b"\0\0\0\x0b\x92\x02\x81\xa2ok\xdd\xff\xff\xff\xff",
        b"\0\0\0\x0b\x92\x02\x81\xa2ok\xc6\xff\xff\xff\xff",
    ] {
        let (client, mut peer) = connected().await;
        let server = async {
            peer.next().await;
            peer.send(bytes).await;
        };
        let (outcome, ()) = tokio::join!(client.mget(&["a", "b"]), server);
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{bytes:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_reply_to_a_request_that_nobody_made_ends_the_connection() {
    let (client, mut peer) = connected().await;
    let server = async {
        peer.next().await;
        peer.reply(999, found("x")).await;
    };
    let (outcome, ()) = tokio::join!(client.get("a"), server);
    let text = outcome.unwrap_err().to_string();
    assert!(
        text.ends_with("a response to request 999, which is not under way"),
        "{text}"
    );
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_connection() {
    let (client, mut peer) = connected().await;
    let clone = client.clone();
    drop(client);
    drop(clone);
    assert_eq!(peer.receive().await, None);
}

#[tokio::test]
async fn a_scan_goes_from_page_to_page() {
    let (client, mut peer) = connected().await;
    let entry = |key: &'static str| ScanEntry(key.into(), Some("v".into()), 1);
    let server = async {
        for (cursor, keys, next) in [
            (None, vec!["a", "b"], Some("b+")),
            (Some("b+"), vec![], Some("c")),
            (Some("c"), vec!["c"], None),
        ] {
            let body = peer.receive().await.unwrap();
            let (id, command) = parts(&body);
            let Command::Scan(scan) = command else {
                panic!("not a scan");
            };
            assert_eq!(scan.cursor.as_deref(), cursor.map(str::as_bytes));
            assert_eq!(scan.prefix.as_deref(), Some(&b"p"[..]));
            let entries = keys.into_iter().map(entry).collect();
            let page = ScanReply(entries, next.map(Into::into), 9);
            peer.reply(id, Reply::Scan(page)).await;
        }
    };
    let mut scanner = client.scan(ScanOptions::prefix("p"));
    let (entries, ()) = tokio::join!(scanner.take(10), server);
    let keys: Vec<_> = entries
        .unwrap()
        .into_iter()
        .map(|entry| entry.key)
        .collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert_eq!(scanner.next().await.unwrap(), None);
}

fn batch() -> Batch {
    Batch::new()
        .get("a")
        .set("b", "1")
        .del(&["c"])
        .incr("d", -5)
        .persist("e")
        .check("f", Condition::Absent)
}

async fn answer_batch(peer: &mut Peer, replies: Vec<OperationReply>) {
    let (id, _) = peer.next().await;
    peer.reply(id, Reply::Batch(replies)).await;
}

#[tokio::test]
async fn each_operation_of_a_batch_has_a_reply_of_its_own_type() {
    let (client, mut peer) = connected().await;
    let replies = vec![
        OperationReply::Get(Some(Found("x".into(), 3))),
        OperationReply::Set(SetReply(4, None)),
        OperationReply::Count(1),
        OperationReply::Incr(IncrReply(Some(-5), 4)),
        OperationReply::Changed(false),
        OperationReply::Done(()),
    ];
    let server = answer_batch(&mut peer, replies.clone());
    let (outcome, ()) = tokio::join!(client.batch(batch()), server);
    assert_eq!(outcome.unwrap(), replies);
}

#[tokio::test]
async fn a_batch_that_is_answered_otherwise_is_an_error() {
    for replies in [
        vec![],
        vec![OperationReply::Done(()); 5],
        vec![OperationReply::Count(1); 6],
        vec![OperationReply::Set(SetReply(1, Some("x".into()))); 6],
    ] {
        let (client, mut peer) = connected().await;
        let server = answer_batch(&mut peer, replies);
        let (outcome, ()) = tokio::join!(client.batch(batch()), server);
        assert!(matches!(outcome, Err(Error::Protocol(_))));
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Text {
    input: String,
}

#[tokio::test]
async fn a_call_sends_and_returns_structs_by_the_names_of_their_fields() {
    let (client, mut peer) = connected().await;
    let server = async {
        let body = peer.receive().await.unwrap();
        let (id, command) = parts(&body);
        let Command::Call(call) = command else {
            panic!("not a call");
        };
        assert_eq!(call.procedure, "text.process");
        assert_eq!(&*call.arguments, b"\x81\xa5input\xa2hi");
        let output = CallReply(b"\x81\xa5input\xa2HI"[..].into());
        peer.reply(id, Reply::Call(output)).await;
    };
    let input = "hi".to_owned();
    let arguments = Text { input };
    let (output, ()) = tokio::join!(client.call::<_, Text>("text.process", &arguments), server);
    let input = "HI".to_owned();
    assert_eq!(output.unwrap(), Text { input });
}

#[tokio::test]
async fn output_of_another_type_is_told_apart_from_a_failed_call() {
    for output in [
        &b"\xc0"[..],
        b"",
        b"\x81\xa5input\xa2HI\xc0",
        b"\xdd\xff\xff\xff\xff",
    ] {
        let (client, mut peer) = connected().await;
        let server = async {
            let (id, _) = peer.next().await;
            peer.reply(id, Reply::Call(CallReply(output.into()))).await;
        };
        let (outcome, ()) = tokio::join!(client.call::<_, Text>("m.p", &()), server);
        assert!(matches!(outcome, Err(Error::Output(_))), "{output:?}");
    }
}

#[tokio::test]
async fn a_refusal_gives_its_code_and_its_payload() {
    let (client, mut peer) = connected().await;
    let details = ErrorDetails {
        module: Some("bank".to_owned()),
        function: Some("transfer".to_owned()),
        code: Some(3),
        payload: Some(b"\x81\xa5input\xa4poor"[..].into()),
        ..ErrorDetails::default()
    };
    let server = async {
        let (id, _) = peer.next().await;
        peer.fail(id, ErrorCode::Rejected, details).await;
    };
    let (outcome, ()) = tokio::join!(client.call::<_, ()>("bank.transfer", &()), server);
    let rejected = outcome.unwrap_err().rejected().unwrap();
    assert_eq!((rejected.code, rejected.function.as_str()), (3, "transfer"));
    assert_eq!(rejected.decode::<Text>().unwrap().input, "poor");
}
