//! What requests and responses may look like, and what is said of those that don't.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod common;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use common::cases;
use luge_protocol::{
    Batch, Command, Condition, Del, ErrorCode, ErrorReply, Found, Get, MAX_LIST_ELEMENTS,
    Operation, Request, Response, Set, response_id,
};
use serde::Serialize;

macro_rules! with_arguments {
    ($command:expr, $arguments:ident => $body:expr; $($variant:ident)*) => {
        match $command { $(Command::$variant($arguments) => $body,)* }
    };
}

/// The request with its arguments as a map by name.
fn encode_by_name(request: &Request<'_>) -> Vec<u8> {
    with_arguments!(&request.command, arguments => named(request, arguments);
        Hello Ping Info Get Set Del Exists Expire Ttl Persist Incr Mget Scan Batch Call ModulePush
        ModuleList ModuleShow ModuleActivate ModuleRollback ModuleRemove ModuleStats CallsList
        CallsKill Logs Watch Flush Backup Stop)
}

fn named(request: &Request<'_>, arguments: &impl Serialize) -> Vec<u8> {
    let command = BTreeMap::from([(request.command.name(), arguments)]);
    rmp_serde::to_vec_named(&(request.id, command, &request.options)).unwrap()
}

fn body(command: &str, arguments: &[u8]) -> Vec<u8> {
    let mut body = vec![0x92, 7, 0x81, 0xa0 | u8::try_from(command.len()).unwrap()];
    body.extend_from_slice(command.as_bytes());
    body.extend_from_slice(arguments);
    body
}

#[track_caller]
fn check_refused(body: &[u8], id: Option<u64>, part: &str) {
    let error = Request::decode(body).unwrap_err();
    assert_eq!(error.id, id, "{}", error.message);
    assert!(
        error.message.contains(part),
        "{:?} lacks {part:?}",
        error.message
    );
}

#[test]
fn arguments_by_name_mean_the_same_as_arguments_in_order() {
    for (name, request) in cases::requests() {
        let by_name = encode_by_name(&request);
        assert_ne!(by_name, request.encode(), "{name}");
        assert_eq!(Request::decode(&by_name), Ok(request), "{name}");
    }
}

#[test]
fn trailing_optional_arguments_may_be_left_out() {
    let short = body("set", b"\x92\xa1k\xc4\x01v");
    let request = Request::decode(&short).unwrap();
    let Command::Set(set) = request.command else {
        panic!("not a set");
    };
    assert_eq!(
        (set.ttl_ms, set.condition, set.return_old),
        (None, None, None)
    );
}

#[test]
fn a_key_may_be_text_and_a_value_may_not() {
    let request = body("get", b"\x91\xa3abc");
    let expected = Command::Get(Get { key: "abc".into() });
    assert_eq!(Request::decode(&request).unwrap().command, expected);
    let set = body("set", b"\x92\xa1k\xa1v");
    check_refused(
        &set,
        Some(7),
        "set: invalid type: string \"v\", expected a value (bin)",
    );
}

#[test]
fn conditions_are_read_from_every_integer_format() {
    for number in [
        &b"\x05"[..],
        b"\xcc\x05",
        b"\xd0\x05",
        b"\xd3\0\0\0\0\0\0\0\x05",
    ] {
        let check = [b"\x91\x91\x81\xa5check\x92\xa1k", number].concat();
        let request = body("batch", &check);
        let Command::Batch(batch) = Request::decode(&request).unwrap().command else {
            panic!("not a batch");
        };
        let [Operation::Check(check)] = &batch.operations[..] else {
            panic!("not a check");
        };
        assert_eq!(check.condition, Condition::Version(5));
    }
    let negative = body("batch", b"\x91\x91\x81\xa5check\x92\xa1k\xff");
    check_refused(
        &negative,
        Some(7),
        "a condition (\"absent\", \"present\" or a version)",
    );
}

#[test]
fn ids_are_read_up_to_the_largest_and_refused_when_negative() {
    let largest = Request::new(u64::MAX, Command::Get(Get { key: "k".into() }));
    assert_eq!(Request::decode(&largest.encode()).unwrap().id, u64::MAX);
    check_refused(
        b"\x92\xff\x81\xa4ping\x90",
        None,
        "id is an unsigned integer",
    );
}

#[test]
fn keys_and_values_borrow_from_the_body() {
    let encoded = Request::new(1, Command::Set(set_of_long_parts())).encode();
    let Command::Set(set) = Request::decode(&encoded).unwrap().command else {
        panic!("not a set");
    };
    check_borrowed(set.key.0, encoded.as_ptr_range());
    check_borrowed(set.value.0, encoded.as_ptr_range());
}

#[test]
fn keys_in_lists_and_in_batches_borrow_from_the_body() {
    let del = Del {
        keys: Some(vec!["first".into(), "second".into()]),
        range: None,
        limit: None,
    };
    let encoded = Request::new(1, Command::Del(del)).encode();
    let Command::Del(del) = Request::decode(&encoded).unwrap().command else {
        panic!("not a del");
    };
    for key in del.keys.unwrap() {
        check_borrowed(key.0, encoded.as_ptr_range());
    }
    let operations = vec![Operation::Set(set_of_long_parts())];
    let encoded = Request::new(1, Command::Batch(Batch { operations })).encode();
    let Command::Batch(batch) = Request::decode(&encoded).unwrap().command else {
        panic!("not a batch");
    };
    let [Operation::Set(set)] = &batch.operations[..] else {
        panic!("not a set");
    };
    // A clone of what borrows borrows, too.
    check_borrowed(set.value.0.clone(), encoded.as_ptr_range());
}

fn set_of_long_parts() -> Set<'static> {
    Set {
        key: vec![b'k'; 500].into(),
        value: vec![b'v'; 70_000].into(),
        ttl_ms: None,
        keep_ttl: None,
        condition: None,
        return_old: None,
    }
}

#[track_caller]
fn check_borrowed(bytes: Cow<'_, [u8]>, body: Range<*const u8>) {
    let Cow::Borrowed(bytes) = bytes else {
        panic!("the bytes were copied");
    };
    let part = bytes.as_ptr_range();
    assert!(body.start <= part.start && part.end <= body.end);
}

#[test]
fn the_outer_form_of_a_request_is_named_when_it_is_wrong() {
    check_refused(b"", None, "a request is an array");
    check_refused(b"\x80", None, "a request is an array");
    check_refused(b"\x91\x01", None, "has 2 or 3 elements");
    check_refused(b"\x94\x01\xc0\xc0\xc0", None, "not 4");
    check_refused(b"\x92\xa1x\x80", None, "id is an unsigned integer");
    check_refused(b"\x92\x07\x90", Some(7), "is a map of one entry");
    check_refused(b"\x92\x07\x82\xa1a\xc0\xa1b\xc0", Some(7), "not of 2");
    check_refused(b"\x92\x07\x81\x01\xc0", Some(7), "name is a str");
}

#[test]
fn an_unknown_command_is_named_with_those_that_exist() {
    check_refused(
        &body("gte", b"\x90"),
        Some(7),
        "unknown command `gte`; the commands are hello, ping",
    );
    check_refused(
        &body("a\x1b\n", b"\x90"),
        Some(7),
        r"unknown command `a\u{1b}\n`",
    );
}

#[test]
fn wrong_arguments_are_named_with_their_command() {
    check_refused(
        &body("get", b"\x81\xa3kee\xa1k"),
        Some(7),
        "get: unknown field `kee`, expected `key`",
    );
    check_refused(
        &body("get", b"\x82\xa3key\xa1k\xa3key\xa1k"),
        Some(7),
        "duplicate field `key`",
    );
    check_refused(
        &body("get", b"\x92\xa1k\xc3"),
        Some(7),
        "get: array had incorrect length, expected 1",
    );
    check_refused(&body("get", b"\x90"), Some(7), "get: invalid length 0");
    check_refused(&body("get", b"\x80"), Some(7), "get: missing field `key`");
    check_refused(
        &body("get", b"\x91\x05"),
        Some(7),
        "expected a key (bin or str)",
    );
    check_refused(
        &body("ping", b"\x91\x05"),
        Some(7),
        "ping: array had incorrect length",
    );
    check_refused(
        &body("expire", b"\x92\xa1k\xff"),
        Some(7),
        "expire: invalid value: integer `-1`",
    );
    let part = body("batch", b"\x91\x91\x81\xa4seet\x90");
    check_refused(
        &part,
        Some(7),
        "batch: unknown variant `seet`, expected one of `get`, `set`",
    );
}

#[test]
fn wrong_options_are_named() {
    let options = |bytes: &[u8]| [b"\x93\x07\x81\xa4ping\x90", bytes].concat();
    check_refused(
        &options(b"\x81\xa4fast\xc3"),
        Some(7),
        "options: unknown field `fast`",
    );
    check_refused(
        &options(b"\x81\xaadurability\xa5never"),
        Some(7),
        "unknown variant `never`",
    );
    assert!(
        Request::decode(&options(b"\xc0")).is_ok(),
        "nil is no options"
    );
}

#[test]
fn bytes_behind_a_request_are_refused_whatever_they_are() {
    let ping = body("ping", b"\x90");
    assert!(Request::decode(&ping).is_ok());
    for last in 0..=u8::MAX {
        let longer = [&ping[..], &[last]].concat();
        check_refused(&longer, Some(7), "bytes follow the request");
    }
}

#[test]
fn bytes_behind_a_response_are_refused_whatever_they_are() {
    let response = b"\x92\x07\x81\xa2ok\xc0";
    assert!(Response::<()>::decode(response).is_ok());
    for last in 0..=u8::MAX {
        let longer = [&response[..], &[last]].concat();
        let error = Response::<()>::decode(&longer).unwrap_err();
        assert!(
            error.message.contains("bytes follow the response"),
            "{last:#x}"
        );
    }
}

#[test]
fn what_a_peer_sent_is_quoted_up_to_a_bound() {
    let mut arguments = vec![0x92, 0xa1, b'k', 0xdb];
    arguments.extend_from_slice(&1_000_000_u32.to_be_bytes());
    arguments.extend_from_slice("ö".repeat(500_000).as_bytes());
    let error = Request::decode(&body("set", &arguments)).unwrap_err();
    assert!(error.message.len() < 1100, "{} bytes", error.message.len());
    assert!(error.message.starts_with("set: invalid type: string"));
}

#[test]
fn longer_lists_than_anyone_needs_are_not_even_decoded() {
    let list = |elements: usize| {
        let mut arguments = vec![0x91, 0xdd];
        arguments.extend_from_slice(&u32::try_from(elements).unwrap().to_be_bytes());
        arguments.resize(arguments.len() + elements, 0xa0);
        arguments
    };
    assert!(Request::decode(&body("mget", &list(MAX_LIST_ELEMENTS))).is_ok());
    for command in ["mget", "exists", "del", "batch", "hello"] {
        let long = body(command, &list(MAX_LIST_ELEMENTS + 1));
        check_refused(&long, Some(7), "a list of more than 65536 elements");
    }
}

#[test]
fn a_response_tells_its_id_before_its_reply_is_read() {
    assert_eq!(response_id(b"\x92\xcd\x01\x2c\x81"), Ok(300));
    assert!(response_id(b"\x93\x01\xc0\xc0").is_err());
    assert!(response_id(b"\x92\xa1x").is_err());
    assert!(response_id(b"").is_err());
}

#[test]
fn a_reply_of_another_type_is_an_error() {
    let pong = b"\x92\x02\x81\xa2ok\xa4pong";
    let error = Response::<Option<Found>>::decode(pong).unwrap_err();
    assert!(error.message.starts_with("not a response: "), "{error}");
}

#[test]
fn maps_in_replies_may_have_names_that_a_client_does_not_know() {
    let body = b"\x92\x05\x81\xa3err\x93\xa7blocked\xa2no\x82\xa7version\x07\xa3new\xc3";
    let error = Response::<()>::decode(body).unwrap().outcome.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Blocked);
    assert_eq!(error.details().version, Some(7));
}

#[test]
fn a_code_from_a_newer_server_counts_as_internal_and_keeps_its_name() {
    let error = ErrorReply("melted".to_owned(), "too warm".to_owned(), None);
    assert_eq!(error.code(), ErrorCode::Internal);
    assert_eq!(error.to_string(), "melted: too warm");
}
