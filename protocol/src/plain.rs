//! The two commonest requests and their replies, read and written by hand.
//!
//! ```text
//!   92 id 81 a3 "get" 91 key                     [id, {"get": [key]}]
//!   92 id 81 a3 "set" 92 key value               [id, {"set": [key, value]}]
//!   92 id 81 a3 "set" 96 key value c0 c0 c0 c0   the same, with what may be left out: up to four nils
//! ```
//!
//! What is not exactly of this form is for [`Request::decode`](crate::Request::decode), which accepts more and
//! tells what is wrong. Both read the same, and what is written here is what [`Response`](crate::Response)
//! writes: tests hold one to the other.

use crate::request::RequestId;

/// A request for one key, without options and with its arguments in order. It borrows from its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainRequest<'a> {
    /// The client's number for it.
    pub id: RequestId,
    /// The key.
    pub key: &'a [u8],
    /// What is asked for.
    pub command: PlainCommand<'a>,
}

/// What a plain request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainCommand<'a> {
    /// `get`
    Get,
    /// `set`, without a time to live and without conditions.
    Set {
        /// The value.
        value: &'a [u8],
    },
}

impl<'a> PlainRequest<'a> {
    /// Reads a body; `None` where it is of another form, right or wrong.
    #[must_use]
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let rest = body.strip_prefix(&[0x92])?;
        let (id, rest) = unsigned(rest)?;
        let (name, rest) = rest.split_first_chunk::<5>()?;
        let (arguments, rest) = rest.split_first()?;
        let (key, rest) = binary(rest)?;
        let (rest, command) = match (name, arguments) {
            (b"\x81\xa3get", 0x91) => (rest, PlainCommand::Get),
            (b"\x81\xa3set", 0x92..=0x96) => {
                let (value, rest) = binary(rest)?;
                let absent = usize::from(arguments - 0x92);
                let rest = rest.strip_prefix([0xc0; 4].get(..absent)?)?;
                (rest, PlainCommand::Set { value })
            }
            _ => return None,
        };
        rest.is_empty().then_some(Self { id, key, command })
    }
}

/// Appends the body of the response to a `get`: a value with its version, or nil.
pub fn encode_get_response(target: &mut Vec<u8>, id: RequestId, found: Option<(&[u8], u64)>) {
    write_head(target, id);
    match found {
        None => target.push(0xc0),
        Some((value, version)) => {
            target.push(0x92);
            write_binary(target, value);
            write_unsigned(target, version);
        }
    }
}

/// Appends the body of the response to a `set` that tells no old value.
pub fn encode_set_response(target: &mut Vec<u8>, id: RequestId, version: u64) {
    write_head(target, id);
    target.push(0x92);
    write_unsigned(target, version);
    target.push(0xc0);
}

fn unsigned(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (marker, rest) = bytes.split_first()?;
    match marker {
        0x00..=0x7f => Some((u64::from(*marker), rest)),
        0xcc => rest
            .split_first_chunk()
            .map(|(number, rest)| (u64::from(u8::from_be_bytes(*number)), rest)),
        0xcd => rest
            .split_first_chunk()
            .map(|(number, rest)| (u64::from(u16::from_be_bytes(*number)), rest)),
        0xce => rest
            .split_first_chunk()
            .map(|(number, rest)| (u64::from(u32::from_be_bytes(*number)), rest)),
        0xcf => rest
            .split_first_chunk()
            .map(|(number, rest)| (u64::from_be_bytes(*number), rest)),
        _ => None,
    }
}

fn binary(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (marker, rest) = bytes.split_first()?;
    let (length, rest) = match marker {
        0xc4 => rest
            .split_first_chunk()
            .map(|(length, rest)| (usize::from(u8::from_be_bytes(*length)), rest))?,
        0xc5 => rest
            .split_first_chunk()
            .map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn write_head(target: &mut Vec<u8>, id: RequestId) {
    target.push(0x92);
    write_unsigned(target, id);
    target.extend_from_slice(b"\x81\xa2ok");
}

fn write_unsigned(target: &mut Vec<u8>, number: u64) {
    rmp::encode::write_uint(target, number).expect("memory takes the bytes");
}

fn write_binary(target: &mut Vec<u8>, bytes: &[u8]) {
    rmp::encode::write_bin(target, bytes).expect("memory takes the bytes");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        Command, Found, Get, Key, Options, Reply, Request, Response, Set, SetReply, Value,
    };

    const NUMBERS: [u64; 12] = [
        0,
        1,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        u32::MAX as u64,
        u32::MAX as u64 + 1,
        u64::MAX - 1,
        u64::MAX,
    ];

    const LENGTHS: [usize; 9] = [0, 1, 16, 31, 32, 255, 256, 65_535, 65_536];

    fn requests() -> Vec<Request<'static>> {
        let mut requests = Vec::new();
        for id in NUMBERS {
            for length in LENGTHS {
                let key = Key::from(vec![b'k'; length]);
                let get = Command::Get(Get { key: key.clone() });
                let set = Command::Set(Set {
                    key,
                    value: Value::from(vec![b'v'; length]),
                    ttl_ms: None,
                    keep_ttl: None,
                    condition: None,
                    return_old: None,
                });
                requests.extend([Request::new(id, get), Request::new(id, set)]);
            }
        }
        requests
    }

    /// What was read by hand, as the other decoder reads it.
    fn as_request<'a>(plain: &PlainRequest<'a>) -> Request<'a> {
        let key = Key::from(plain.key);
        let command = match plain.command {
            PlainCommand::Get => Command::Get(Get { key }),
            PlainCommand::Set { value } => Command::Set(Set {
                key,
                value: Value::from(value),
                ttl_ms: None,
                keep_ttl: None,
                condition: None,
                return_old: None,
            }),
        };
        Request::new(plain.id, command)
    }

    #[test]
    fn what_is_read_by_hand_is_what_the_decoder_reads() {
        let mut read = 0;
        for request in requests() {
            let body = request.encode();
            // Whole, cut off at every byte of its head, and with every byte of it turned.
            let head = body.len().min(24);
            let mut bodies: Vec<Vec<u8>> = (0..head).map(|end| body[..end].to_vec()).collect();
            for at in 0..head {
                for turned in [
                    0x00, 0x01, 0x7f, 0x80, 0x91, 0x92, 0x93, 0xc0, 0xc4, 0xc5, 0xff,
                ] {
                    let mut other = body.clone();
                    other[at] = turned;
                    bodies.push(other);
                }
            }
            bodies.push([&body[..], b"\xc0"].concat());
            bodies.push(body);
            for body in bodies {
                if let Some(plain) = PlainRequest::decode(&body) {
                    assert_eq!(Request::decode(&body).unwrap(), as_request(&plain));
                    read += 1;
                }
            }
        }
        assert!(read > 1_000, "{read}");
    }

    #[test]
    fn requests_without_more_than_they_need_are_read() {
        for request in requests() {
            let body = request.encode();
            let is_long = match &request.command {
                Command::Get(get) => get.key.len() > usize::from(u16::MAX),
                Command::Set(set) => set.key.len() > usize::from(u16::MAX),
                _ => unreachable!("there are no others"),
            };
            assert_eq!(PlainRequest::decode(&body).is_none(), is_long);
        }
    }

    #[test]
    fn arguments_that_may_be_left_out_may_be_nil() {
        for absent in 0_u8..6 {
            let mut body = b"\x92\x01\x81\xa3set".to_vec();
            body.push(0x92 + absent);
            body.extend_from_slice(b"\xc4\x01k\xc4\x01v");
            body.resize(body.len() + usize::from(absent), 0xc0);
            let plain = PlainRequest::decode(&body).map(|plain| as_request(&plain));
            assert_eq!(plain, Request::decode(&body).ok());
            body.pop();
            assert_eq!(PlainRequest::decode(&body), None);
        }
    }

    #[test]
    fn what_asks_for_more_is_left_to_the_decoder() {
        let mut request = requests().remove(0);
        request.options = Options {
            deadline_ms: Some(5),
            ..Options::default()
        };
        assert_eq!(PlainRequest::decode(&request.encode()), None);
        let by_name = b"\x92\x01\x81\xa3get\x81\xa3key\xc4\x01k";
        assert!(Request::decode(by_name).is_ok());
        assert_eq!(PlainRequest::decode(by_name), None);
    }

    #[test]
    fn responses_are_written_as_the_encoder_writes_them() {
        for id in NUMBERS {
            for (length, version) in LENGTHS.into_iter().zip(NUMBERS) {
                let value = vec![b'v'; length];
                let found = Found(Bytes::from(value.clone()), version);
                check(id, Reply::Get(Some(found)), |target| {
                    encode_get_response(target, id, Some((&value, version)));
                });
                check(id, Reply::Get(None), |target| {
                    encode_get_response(target, id, None);
                });
                check(id, Reply::Set(SetReply(version, None)), |target| {
                    encode_set_response(target, id, version);
                });
            }
        }
    }

    fn check(id: u64, reply: Reply, write: impl FnOnce(&mut Vec<u8>)) {
        let (mut expected, mut written) = (Vec::new(), Vec::new());
        let outcome = Ok(reply);
        Response { id, outcome }.encode(&mut expected).unwrap();
        write(&mut written);
        assert_eq!(written, expected);
    }
}
