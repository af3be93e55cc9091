//! Where a reply ends, and whether it is an error: all that a generator must know of it.

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Luge's frames: four bytes of length, big-endian, and `[1, {"ok": …}]` or `[1, {"err": …}]`.
    Luge,
    /// Version 2 of the protocol of Redis and Valkey.
    Resp,
    /// Tarantool's: a length as a MessagePack integer of five bytes, and a header that begins with the status.
    Iproto,
}

/// One reply in what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// All its bytes.
    pub length: usize,
    /// Whether the request was refused.
    pub is_error: bool,
}

/// The longest reply that is believed; anything longer is a reply that was read wrongly.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// Arrays in arrays that are followed.
const MAX_DEPTH: u32 = 8;

impl Wire {
    /// The first reply in these bytes, or nothing where it is not whole yet.
    ///
    /// # Errors
    /// These bytes are no reply of this protocol.
    #[inline]
    pub fn delimit(self, bytes: &[u8]) -> Result<Option<Reply>, String> {
        match self {
            Self::Luge => framed(bytes, 0, 4, |body| !body.starts_with(b"\x92\x01\x81\xa2ok")),
            // The header: a map whose first name is 0, the status, which is 0 for success; five bytes long.
            Self::Iproto => {
                if bytes.first().is_some_and(|it| *it != 0xce) {
                    return Err(unreadable(bytes));
                }
                framed(bytes, 1, 5, |body| {
                    body.get(1..7) != Some(b"\x00\xce\0\0\0\0")
                })
            }
            Self::Resp => {
                let is_error = bytes.first() == Some(&b'-');
                let end = resp(bytes, 0, MAX_DEPTH).map_err(|()| unreadable(bytes))?;
                Ok(end.map(|length| Reply { length, is_error }))
            }
        }
    }
}

fn framed(
    bytes: &[u8],
    at: usize,
    head: usize,
    is_error: impl Fn(&[u8]) -> bool,
) -> Result<Option<Reply>, String> {
    let Some(length) = bytes.get(at..).and_then(|it| it.first_chunk::<4>()) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize + head;
    if length > MAX_REPLY_BYTES {
        return Err(unreadable(bytes));
    }
    let Some(body) = bytes.get(head..length) else {
        return Ok(None);
    };
    let is_error = is_error(body);
    Ok(Some(Reply { length, is_error }))
}

/// Where the value at an offset ends.
fn resp(bytes: &[u8], at: usize, depth: u32) -> Result<Option<usize>, ()> {
    let Some(kind) = bytes.get(at) else {
        return Ok(None);
    };
    let Some(line) = bytes
        .get(at + 1..)
        .and_then(|it| it.iter().position(|it| *it == b'\r'))
    else {
        return Ok(None);
    };
    let text = bytes.get(at + 1..at + 1 + line).unwrap_or_default();
    let end = at + line + 3;
    if bytes.len() < end {
        return Ok(None);
    }
    match kind {
        b'+' | b'-' | b':' => Ok(Some(end)),
        b'$' => {
            let Some(length) = number(text)? else {
                return Ok(Some(end));
            };
            let end = end + length + 2;
            Ok((bytes.len() >= end).then_some(end))
        }
        b'*' if depth > 0 => {
            let mut end = end;
            for _ in 0..number(text)?.unwrap_or(0) {
                let Some(next) = resp(bytes, end, depth - 1)? else {
                    return Ok(None);
                };
                end = next;
            }
            Ok(Some(end))
        }
        _ => Err(()),
    }
}

/// A length; nothing where it is -1, an absent value.
fn number(text: &[u8]) -> Result<Option<usize>, ()> {
    if text == b"-1" {
        return Ok(None);
    }
    let digit = |sum: usize, byte: &u8| match byte {
        b'0'..=b'9' if sum < MAX_REPLY_BYTES => Ok(sum * 10 + usize::from(byte - b'0')),
        _ => Err(()),
    };
    text.iter().try_fold(0, digit).map(Some)
}

fn unreadable(bytes: &[u8]) -> String {
    let shown = bytes.get(..bytes.len().min(60)).unwrap_or_default();
    format!(
        "no reply of this protocol: {:?}",
        String::from_utf8_lossy(shown)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut off anywhere it is not whole; whole, it has its length, whatever follows.
    fn check(wire: Wire, reply: &[u8], is_error: bool) {
        for cut in 0..reply.len() {
            assert_eq!(wire.delimit(&reply[..cut]), Ok(None), "{cut} bytes");
        }
        let length = reply.len();
        let expected = Ok(Some(Reply { length, is_error }));
        assert_eq!(wire.delimit(reply), expected);
        assert_eq!(wire.delimit(&[reply, b"*junk"].concat()), expected);
    }

    #[test]
    fn replies_of_redis_end_where_they_end() {
        check(Wire::Resp, b"+OK\r\n", false);
        check(Wire::Resp, b"-ERR no\r\n", true);
        check(Wire::Resp, b":-12\r\n", false);
        check(Wire::Resp, b"$-1\r\n", false);
        check(Wire::Resp, b"$0\r\n\r\n", false);
        check(Wire::Resp, b"$4\r\n\r\n\r\n\r\n", false);
        check(Wire::Resp, b"*0\r\n", false);
        check(Wire::Resp, b"*-1\r\n", false);
        check(Wire::Resp, b"*3\r\n$1\r\na\r\n*1\r\n:1\r\n$-1\r\n", false);
    }

    #[test]
    fn replies_of_luge_end_where_they_end() {
        check(Wire::Luge, b"\0\0\0\x07\x92\x01\x81\xa2ok\xc0", false);
        check(Wire::Luge, b"\0\0\0\x08\x92\x01\x81\xa3err\x90", true);
    }

    #[test]
    fn replies_of_tarantool_end_where_they_end() {
        let header = b"\x83\x00\xce\x00\x00\x00\x00\x01\xcf\0\0\0\0\0\0\0\0\x05\xce\0\0\0\x50\x80";
        let length = u8::try_from(header.len()).unwrap();
        let whole = [&[0xce, 0, 0, 0, length][..], header].concat();
        check(Wire::Iproto, &whole, false);
        let mut failed = whole;
        failed[8] = 0x80;
        check(Wire::Iproto, &failed, true);
    }

    #[test]
    fn what_is_no_reply_is_told() {
        assert!(Wire::Resp.delimit(b"HTTP/1.1 400\r\n").is_err());
        assert!(Wire::Resp.delimit(b"$x\r\n").is_err());
        assert!(Wire::Resp.delimit(b"$99999999999999999999\r\n").is_err());
        assert!(Wire::Luge.delimit(b"HTTP/1.1").is_err());
        assert!(Wire::Iproto.delimit(b"Tarantool").is_err());
    }
}
