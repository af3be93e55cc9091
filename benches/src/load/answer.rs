//! What a reply says, in a form that all servers' replies have in common: so that it can be seen that they did the
//! same work.

use super::wire::Wire;

/// The texts and numbers of a reply in their order, without its structure: numbers as decimal text, and nothing for
/// nil. Of Luge's replies it is what `ok` has, of Tarantool's the data.
///
/// # Errors
/// The reply is an error, which is told, or can't be read.
pub fn texts(wire: Wire, reply: &[u8]) -> Result<Vec<String>, String> {
    let is_error = wire.delimit(reply)?.is_some_and(|it| it.is_error);
    if is_error {
        return Err(printable(reply));
    }
    let mut found = Vec::new();
    let read = match wire {
        Wire::Resp => resp(reply, &mut found),
        Wire::Luge => reply
            .get(10..)
            .and_then(|body| message_pack(body, &mut found)),
        Wire::Iproto => {
            let body = reply
                .get(5..)
                .and_then(|head| message_pack(head, &mut found));
            found.clear();
            // {0x30: data}
            body.and_then(|body| message_pack(body.get(2..)?, &mut found))
        }
    };
    read.ok_or_else(|| format!("this reply can't be read: {}", printable(reply)))?;
    Ok(found)
}

/// A procedure's output is MessagePack in a `bin`.
///
/// # Errors
/// It isn't.
pub fn output(texts: &[u8]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    if !texts.is_empty() {
        message_pack(texts, &mut found).ok_or("an output that is no MessagePack")?;
    }
    Ok(found)
}

/// The `bin` in the reply to a call.
#[must_use]
pub fn call_output(reply: &[u8]) -> Option<&[u8]> {
    let (length, head) = match reply.get(10)? {
        0xc4 => (usize::from(*reply.get(11)?), 12),
        0xc5 => (big_endian(reply.get(11..13)?), 13),
        0xc6 => (big_endian(reply.get(11..15)?), 15),
        _ => return None,
    };
    reply.get(head..head + length)
}

/// Whatever can be read of these bytes.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let shown = bytes.get(..bytes.len().min(300)).unwrap_or_default();
    let text = String::from_utf8_lossy(shown);
    text.chars()
        .filter(|it| !it.is_control() && *it != '\u{fffd}')
        .collect()
}

fn resp<'a>(bytes: &'a [u8], found: &mut Vec<String>) -> Option<&'a [u8]> {
    let line = bytes.iter().position(|it| *it == b'\r')?;
    let text = std::str::from_utf8(bytes.get(1..line)?).ok()?;
    let mut rest = bytes.get(line + 2..)?;
    match bytes.first()? {
        b'$' if text == "-1" => {}
        b'$' => {
            let length: usize = text.parse().ok()?;
            found.push(String::from_utf8_lossy(rest.get(..length)?).into_owned());
            rest = rest.get(length + 2..)?;
        }
        b'*' => {
            for _ in 0..text.parse().unwrap_or(0_usize) {
                rest = resp(rest, found)?;
            }
        }
        _ => found.push(text.to_owned()),
    }
    Some(rest)
}

/// Reads one value; answers what follows it.
fn message_pack<'a>(bytes: &'a [u8], found: &mut Vec<String>) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_first()?;
    let sized = |bytes: usize| Some((big_endian(rest.get(..bytes)?), rest.get(bytes..)?));
    match *first {
        number @ 0..=0x7f => {
            found.push(number.to_string());
            Some(rest)
        }
        map @ 0x80..=0x8f => values(2 * usize::from(map & 0xf), rest, found),
        array @ 0x90..=0x9f => values(usize::from(array & 0xf), rest, found),
        text @ 0xa0..=0xbf => string(usize::from(text & 0x1f), rest, found),
        0xc0 => Some(rest),
        0xc2 | 0xc3 => {
            found.push((*first == 0xc3).to_string());
            Some(rest)
        }
        0xc4 | 0xd9 => sized(1).and_then(|(length, rest)| string(length, rest, found)),
        0xc5 | 0xda => sized(2).and_then(|(length, rest)| string(length, rest, found)),
        0xc6 | 0xdb => sized(4).and_then(|(length, rest)| string(length, rest, found)),
        0xcb => {
            let number = f64::from_be_bytes(*rest.first_chunk()?);
            found.push(number.to_string());
            rest.get(8..)
        }
        width @ 0xcc..=0xcf => {
            let (number, rest) = sized(1 << (width - 0xcc))?;
            found.push(number.to_string());
            Some(rest)
        }
        width @ 0xd0..=0xd3 => {
            let length = 1 << (width - 0xd0);
            let raw = big_endian(rest.get(..length)?) as u64;
            let unused = 64 - 8 * u32::from(1_u8 << (width - 0xd0));
            found.push(((raw << unused).cast_signed() >> unused).to_string());
            rest.get(length..)
        }
        0xdc => sized(2).and_then(|(count, rest)| values(count, rest, found)),
        0xdd => sized(4).and_then(|(count, rest)| values(count, rest, found)),
        negative @ 0xe0.. => {
            found.push(negative.cast_signed().to_string());
            Some(rest)
        }
        _ => None,
    }
}

fn values<'a>(count: usize, mut rest: &'a [u8], found: &mut Vec<String>) -> Option<&'a [u8]> {
    for _ in 0..count {
        rest = message_pack(rest, found)?;
    }
    Some(rest)
}

fn string<'a>(length: usize, rest: &'a [u8], found: &mut Vec<String>) -> Option<&'a [u8]> {
    found.push(String::from_utf8_lossy(rest.get(..length)?).into_owned());
    rest.get(length..)
}

fn big_endian(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_answer_reads_the_same_of_all_servers() {
        let expected = Ok(vec!["ab".to_owned(), "300".to_owned()]);
        let resp = b"*3\r\n$2\r\nab\r\n:300\r\n$-1\r\n";
        assert_eq!(texts(Wire::Resp, resp), expected);
        let luge = b"\0\0\0\x0f\x92\x01\x81\xa2ok\x93\xc4\x02ab\xcd\x01\x2c\xc0";
        assert_eq!(texts(Wire::Luge, luge), expected);
        let header = b"\x82\x00\xce\0\0\0\0\x01\xcf\0\0\0\0\0\0\0\0";
        let body = b"\x81\x30\x92\xa2ab\xcd\x01\x2c";
        let length = u8::try_from(header.len() + body.len()).unwrap();
        let iproto = [&[0xce, 0, 0, 0, length][..], header, body].concat();
        assert_eq!(texts(Wire::Iproto, &iproto), expected);
    }

    #[test]
    fn numbers_have_their_sign() {
        let read = |bytes: &[u8]| output(bytes).unwrap().remove(0);
        assert_eq!(read(&[0xff]), "-1");
        assert_eq!(read(&[0xd0, 0x80]), "-128");
        assert_eq!(read(&[0xd1, 0xff, 0x00]), "-256");
        assert_eq!(read(&[0xd2, 0, 1, 0, 0]), "65536");
    }

    #[test]
    fn an_error_is_told() {
        assert_eq!(texts(Wire::Resp, b"-ERR no\r\n"), Err("-ERR no".to_owned()));
    }
}
