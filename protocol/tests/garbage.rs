//! Bytes that nobody meant: no panic, no endless work, no memory beyond what arrived.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod common;

use std::borrow::Cow;

use common::cases;
use luge_protocol::{
    Command, Found, Get, HelloReply, Key, ModuleDescription, Request, Response, ScanReply, Set,
    Value, WatchEvent, is_last_of_stream, response_id,
};
use proptest::prelude::*;

/// Decodes the bytes as everything that a peer can send.
fn decode_as_everything(bytes: &[u8]) {
    let _ = Request::decode(bytes);
    let _ = response_id(bytes);
    let _ = Response::<()>::decode(bytes);
    let _ = Response::<Option<Found>>::decode(bytes);
    let _ = Response::<HelloReply>::decode(bytes);
    let _ = Response::<ModuleDescription>::decode(bytes);
    let _ = Response::<ScanReply>::decode(bytes);
    let _ = Response::<Option<WatchEvent>>::decode(bytes);
    let _ = is_last_of_stream(bytes);
}

/// A request that is well formed up to the arguments, which are `arguments`.
fn body(command: &str, arguments: &[u8]) -> Vec<u8> {
    let mut body = vec![0x92, 7, 0x81, 0xa0 | u8::try_from(command.len()).unwrap()];
    body.extend_from_slice(command.as_bytes());
    body.extend_from_slice(arguments);
    body
}

#[test]
fn every_golden_body_cut_at_every_byte_is_an_error() {
    for case in cases::all() {
        for length in 0..case.body.len() {
            let cut = &case.body[..length];
            assert!((case.recode)(cut).is_err(), "{} cut to {length}", case.name);
        }
    }
}

#[test]
fn every_golden_body_with_any_byte_changed_decodes_or_is_an_error() {
    for case in cases::all() {
        for place in 0..case.body.len() {
            for byte in [
                0x00, 0x7f, 0x80, 0x90, 0xa0, 0xc0, 0xc1, 0xc6, 0xc9, 0xdb, 0xdd, 0xdf, 0xff,
            ] {
                let mut body = case.body.clone();
                body[place] = byte;
                let _ = (case.recode)(&body);
                decode_as_everything(&body);
            }
        }
    }
}

#[test]
fn nests_of_arrays_and_maps_are_refused_at_any_depth() {
    for marker in [
        &b"\x91"[..],
        b"\x81\xa1k",
        b"\x81\xa4keys",
        b"\xdd\0\0\0\x01",
        b"\x81\xa3get",
    ] {
        let nest = marker.repeat(1_000_000);
        decode_as_everything(&nest);
        for command in Command::NAMES {
            let error = Request::decode(&body(command, &nest)).unwrap_err();
            assert_eq!(error.id, Some(7), "{command}");
        }
        let options = [b"\x93\x07\x81\xa4ping\x90", &nest[..]].concat();
        assert!(Request::decode(&options).is_err());
        for head in [
            &b"\x92\x01\x81\xa2ok"[..],
            b"\x92\x01\x81\xa3err",
            b"\x92\x01\x81\xa2ok\x81\xa3new",
        ] {
            decode_as_everything(&[head, &nest].concat());
        }
    }
}

#[test]
fn arrays_and_maps_that_announce_the_most_elements_are_refused_at_once() {
    for head in [&b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff"] {
        decode_as_everything(head);
        for command in Command::NAMES {
            assert!(Request::decode(&body(command, head)).is_err(), "{command}");
            let first = [&b"\x91"[..], head].concat();
            assert!(
                Request::decode(&body(command, &first)).is_err(),
                "{command}"
            );
        }
        for start in [
            &b"\x92\x01\x81\xa2ok"[..],
            b"\x92\x01\x81\xa2ok\x93",
            b"\x92\x01\x81\xa3err\x93\xa1a\xa1b",
        ] {
            decode_as_everything(&[start, head].concat());
        }
    }
}

#[test]
fn strings_that_announce_4_gib_are_refused_at_once() {
    for head in [
        &b"\xdb\xff\xff\xff\xff"[..],
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ] {
        let key = [&b"\x91"[..], head, b"few bytes"].concat();
        assert!(Request::decode(&body("get", &key)).is_err());
        let name = [&b"\x92\x07\x81"[..], head, b"few bytes"].concat();
        assert!(Request::decode(&name).is_err());
        decode_as_everything(&[&b"\x92\x01\x81\xa2ok\x92"[..], head].concat());
    }
}

#[test]
fn other_protocols_are_refused() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"*1\r\n$4\r\nPING\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"{\"get\": [\"key\"]}",
    ] {
        assert_eq!(Request::decode(bytes).unwrap_err().id, None);
        decode_as_everything(bytes);
    }
}

fn keys() -> impl Strategy<Value = Key<'static>> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Key(Cow::Owned(bytes)))
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode_as_everything(&bytes);
    }

    #[test]
    fn any_arguments_decode_or_are_an_error_under_the_request_s_id(
        command in prop::sample::select(Command::NAMES),
        arguments in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        if let Err(error) = Request::decode(&body(command, &arguments)) {
            prop_assert_eq!(error.id, Some(7));
        }
    }

    #[test]
    fn any_reply_decodes_or_is_an_error(
        head in prop::sample::select(vec![&b"\x92\x01\x81\xa2ok"[..], b"\x92\x01\x81\xa3err"]),
        reply in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        decode_as_everything(&[head, &reply].concat());
    }

    #[test]
    fn any_set_and_get_come_back_as_they_were(
        id in any::<u64>(),
        key in keys(),
        value in prop::collection::vec(any::<u8>(), 0..70_000),
        ttl_ms in any::<Option<u64>>(),
        return_old in any::<Option<bool>>(),
    ) {
        let get = Request::new(id, Command::Get(Get { key: key.clone() }));
        let encoded = get.encode();
        prop_assert_eq!(Request::decode(&encoded), Ok(get));
        let value = Value(Cow::Owned(value));
        let set = Set { key, value, ttl_ms, keep_ttl: None, condition: None, return_old };
        let set = Request::new(id, Command::Set(set));
        let encoded = set.encode();
        prop_assert_eq!(Request::decode(&encoded), Ok(set));
    }
}
