//! Holds this crate's own MessagePack to `rmp-serde`, the reference.
#![allow(clippy::unwrap_used, reason = "a test fails with a panic")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use luge_udf::message_pack::{decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(u32),
    Line(i8, i8),
    Box { width: f64, height: f32 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    letter: char,
    unit: (),
    some: Option<u8>,
    none: Option<u8>,
    wrapped: Wrapped,
    shapes: Vec<Shape>,
    map: BTreeMap<String, Vec<i64>>,
    pair: (i16, u16),
}

fn both_ways<T: Debug + PartialEq + Serialize + DeserializeOwned>(value: &T) {
    let bytes = encode(value).unwrap();
    assert_eq!(bytes, rmp_serde::to_vec_named(value).unwrap(), "{value:?}");
    assert_eq!(&decode::<T>(&bytes).unwrap(), value);
    let short = rmp_serde::to_vec(value).unwrap();
    assert_eq!(
        &decode::<T>(&short).unwrap(),
        value,
        "structs as arrays are read, too"
    );
}

fn everything() -> Everything {
    Everything {
        flag: true,
        letter: 'ß',
        unit: (),
        some: Some(200),
        none: None,
        wrapped: Wrapped("x".repeat(40)),
        shapes: vec![
            Shape::Point,
            Shape::Circle(70_000),
            Shape::Line(-1, 1),
            Shape::Box {
                width: 0.5,
                height: -2.0,
            },
        ],
        map: BTreeMap::from([("a".to_owned(), vec![]), ("b".to_owned(), vec![1, -40_000])]),
        pair: (-300, 65_535),
    }
}

#[test]
fn values_are_written_and_read_as_the_reference_does() {
    both_ways(&everything());
    for exponent in 0..64 {
        for offset in [-1_i64, 0, 1] {
            let number = (1_i64 << exponent).wrapping_add(offset);
            both_ways(&number);
            both_ways(&number.wrapping_neg());
            both_ways(&number.cast_unsigned());
        }
    }
    for length in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
        both_ways(&"é".repeat(length));
        both_ways(&vec![7_u8; length]);
        both_ways(
            &(0..length)
                .map(|index| (index, true))
                .collect::<BTreeMap<usize, bool>>(),
        );
    }
}

#[test]
fn json_goes_there_and_back() {
    let value = json!({"a": [1, -2, 2.5, null, true, "text"], "b": {"c": {}}});
    let bytes = encode(&value).unwrap();
    assert_eq!(bytes, rmp_serde::to_vec_named(&value).unwrap());
    assert_eq!(decode::<Value>(&bytes).unwrap(), value);
}

#[test]
fn a_length_that_is_not_known_beforehand_is_filled_in() {
    #[derive(Serialize)]
    struct Outer {
        first: u8,
        #[serde(flatten)]
        inner: Wrapper,
    }
    #[derive(Serialize)]
    struct Wrapper {
        second: u8,
    }
    let bytes = encode(&Outer {
        first: 1,
        inner: Wrapper { second: 2 },
    })
    .unwrap();
    assert_eq!(
        decode::<Value>(&bytes).unwrap(),
        json!({"first": 1, "second": 2})
    );
}

#[test]
fn texts_are_borrowed() {
    #[derive(Deserialize)]
    struct Borrowed<'a> {
        text: &'a str,
    }
    let bytes = encode(&json!({"text": "here"})).unwrap();
    let borrowed: Borrowed<'_> = decode(&bytes).unwrap();
    assert!(bytes.as_ptr_range().contains(&borrowed.text.as_ptr()));
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    let told = |value: Value| {
        decode::<Everything>(&encode(&value).unwrap())
            .unwrap_err()
            .text()
    };
    let mut value = serde_json::to_value(everything()).unwrap();
    value["pair"] = json!([1, "two"]);
    assert_eq!(told(value.clone()), "pair: expected u16, found this text");
    value["pair"] = json!([1, 70_000]);
    assert_eq!(
        told(value.clone()),
        "pair: expected u16, found this integer"
    );
    value["pair"] = json!([1, 2]);
    value["map"] = json!({"a": [true]});
    assert_eq!(told(value.clone()), "map.a: expected i64, found a boolean");
    value["map"] = json!({});
    value["shapes"] = json!(["Square"]);
    assert_eq!(
        told(value),
        "shapes: unknown variant `Square`, expected one of Point, Circle, Line, Box"
    );
    assert_eq!(told(json!({"flag": true})), "missing field `letter`");
    assert_eq!(
        told(json!(3)),
        "expected struct Everything, found this integer"
    );
}

#[test]
fn no_bytes_are_nil() {
    decode::<()>(&[]).unwrap();
    assert_eq!(decode::<Option<u8>>(&[]).unwrap(), None);
}

#[test]
fn garbage_is_refused() {
    let bytes = encode(&everything()).unwrap();
    for length in 1..bytes.len() {
        assert!(
            decode::<Everything>(&bytes[..length]).is_err(),
            "cut at {length}"
        );
    }
    assert_eq!(
        decode::<u8>(&[1, 2]).unwrap_err().text(),
        "there are bytes after the value"
    );
    assert_eq!(
        decode::<u8>(&[0xc1]).unwrap_err().text(),
        "extension types are not supported"
    );
    assert_eq!(
        decode::<String>(&[0xa1, 0xff]).unwrap_err().text(),
        "a text is not UTF-8"
    );
    // Four billion items are announced, and none comes.
    assert!(decode::<Vec<u64>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
    let nested = [vec![0x91; 100_000], vec![0xc0]].concat();
    assert_eq!(
        decode::<Value>(&nested).unwrap_err().text(),
        "the message is nested too deeply"
    );
    for first in 0..=255_u8 {
        for second in 0..=255_u8 {
            let _ = decode::<Value>(&[first, second, 0, 0, 0, 1, first]);
        }
    }
}
