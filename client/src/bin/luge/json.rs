//! Between JSON, which people write, and MessagePack, which procedures speak.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

/// The deepest nesting that is read, as deep as JSON is read.
const MAX_DEPTH: usize = 128;

/// Turns a JSON text into MessagePack.
pub(crate) fn to_messagepack(text: &str) -> Result<Vec<u8>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    rmp_serde::to_vec(&value).map_err(|error| error.to_string())
}

/// Turns one MessagePack value into JSON. Integers keep their 64 bits; `bin` is shown as [`from_bytes`]
/// does; keys of maps that are not texts become the text of their JSON; NaN and infinities are null.
pub(crate) fn from_messagepack(bytes: &[u8]) -> Result<Value, String> {
    let mut rest = bytes;
    let mut source = rmp_serde::Deserializer::new(&mut rest);
    source.set_max_depth(MAX_DEPTH);
    let value = Shown::deserialize(&mut source).map_err(|error| error.to_string())?;
    match rest.len() {
        0 => Ok(value.0),
        more => Err(format!("{more} bytes follow the value")),
    }
}

/// Bytes as JSON: a string where they are UTF-8, else `{"hex": "00ff"}`.
pub(crate) fn from_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

/// Bytes that by custom are one MessagePack value; where they aren't, as [`from_bytes`].
pub(crate) fn payload(payload: &[u8]) -> Value {
    from_messagepack(payload).unwrap_or_else(|_| from_bytes(payload))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A JSON value read from MessagePack.
struct Shown(Value);

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShownVisitor).map(Self)
    }
}

struct ShownVisitor;

impl<'de> Visitor<'de> for ShownVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a MessagePack value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f32<E: Error>(self, value: f32) -> Result<Value, E> {
        // By its shortest text, else 0.1 would be shown as 0.10000000149011612.
        self.visit_f64(value.to_string().parse().unwrap_or(f64::NAN))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(from_bytes(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(Shown(element)) = sequence.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((Shown(key), Shown(value))) = entries.next_entry()? {
            let name = match key {
                Value::String(text) => text,
                other => other.to_string(),
            };
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }

    /// The extension types of MessagePack come in this form.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        let (kind, content) = <(i8, Bytes)>::deserialize(source)?;
        Ok(json!({ "ext": kind, "hex": hex(&content) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_both_ways(text: &str) {
        let bytes = to_messagepack(text).unwrap();
        assert_eq!(from_messagepack(&bytes).unwrap().to_string(), text);
    }

    #[track_caller]
    fn check_shown(messagepack: &[u8], expected: &str) {
        assert_eq!(from_messagepack(messagepack).unwrap().to_string(), expected);
    }

    #[test]
    fn json_survives_the_way_there_and_back() {
        check_both_ways(r#"{"input":"hello","transform":"uppercase"}"#);
        check_both_ways(r#"{"z":1,"a":[true,false,null,{}],"m":-1.5}"#);
        check_both_ways(r#""""#);
        check_both_ways("[]");
    }

    #[test]
    fn integers_keep_64_bits() {
        check_both_ways("[18446744073709551615,9223372036854775807,-9223372036854775808]");
        check_both_ways("9007199254740993");
    }

    #[test]
    fn bytes_are_text_where_they_are_utf_8_and_hexadecimal_elsewhere() {
        check_shown(b"\xc4\x02hi", r#""hi""#);
        check_shown(b"\xc4\x02\x00\xff", r#"{"hex":"00ff"}"#);
    }

    #[test]
    fn keys_of_maps_that_are_no_texts_become_texts() {
        check_shown(b"\x82\x01\xa1a\xc3\xa1b", r#"{"1":"a","true":"b"}"#);
    }

    #[test]
    fn what_json_lacks_is_shown_all_the_same() {
        check_shown(b"\xcb\x7f\xf8\0\0\0\0\0\0", "null");
        check_shown(b"\xca\x3d\xcc\xcc\xcd", "0.1");
        check_shown(b"\xd4\x05\xaa", r#"{"ext":5,"hex":"aa"}"#);
    }

    #[test]
    fn what_is_not_one_value_is_an_error() {
        for bytes in [
            &b""[..],
            b"\x93\x01",
            b"\x01\x02",
            b"\xc1",
            b"\xdd\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
        ] {
            assert!(from_messagepack(bytes).is_err(), "{bytes:?}");
        }
        assert!(from_messagepack(&[0x91; 1_000_000]).is_err());
        assert!(to_messagepack("{").is_err());
        assert!(to_messagepack(&"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn a_payload_that_is_no_value_is_shown_as_bytes() {
        assert_eq!(payload(b"\xa4poor"), Value::from("poor"));
        assert_eq!(payload(b"plain text"), Value::from("plain text"));
    }
}
