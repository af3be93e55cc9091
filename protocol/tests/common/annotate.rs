//! Writes a frame as hexadecimal, a line for each MessagePack value.

use std::fmt::Write;

/// The text of a golden file: the header, then each value with its meaning as a comment.
pub(crate) fn annotate(body: &[u8]) -> String {
    let header = u32::try_from(body.len()).expect("test bodies are short");
    let mut text = String::new();
    write_line(
        &mut text,
        0,
        &header.to_be_bytes(),
        &format!("a body of {header} bytes"),
    );
    let mut rest = body;
    write_value(&mut text, &mut rest, 1);
    assert!(rest.is_empty(), "one value fills the body");
    text
}

fn write_value(text: &mut String, rest: &mut &[u8], depth: usize) {
    let marker = *rest.first().expect("a value follows");
    let (head, content, children, meaning) = match marker {
        0x00..=0x7f => (1, 0, 0, format!("{marker}")),
        0x80..=0x8f => (1, 0, usize::from(marker & 15) * 2, map(marker & 15)),
        0x90..=0x9f => (1, 0, usize::from(marker & 15), array(marker & 15)),
        0xa0..=0xbf => (1, usize::from(marker & 31), 0, String::new()),
        0xc0 => (1, 0, 0, "nil".to_owned()),
        0xc2 | 0xc3 => (1, 0, 0, (marker == 0xc3).to_string()),
        0xc4 | 0xd9 => (
            2,
            usize::from(*rest.get(1).expect("a length")),
            0,
            String::new(),
        ),
        0xcc | 0xd0 => (2, 0, 0, integer(rest, 1)),
        0xcd | 0xd1 => (3, 0, 0, integer(rest, 2)),
        0xce | 0xd2 => (5, 0, 0, integer(rest, 4)),
        0xcf | 0xd3 => (9, 0, 0, integer(rest, 8)),
        // Golden maps are short: the second byte of a long length is all of it.
        0xde => (3, 0, usize::from(third(rest)) * 2, map(third(rest))),
        0xe0..=0xff => (1, 0, 0, format!("{}", marker.cast_signed())),
        other => panic!("golden frames have no value that begins with {other:#x}"),
    };
    let (value, tail) = rest.split_at(head + content);
    *rest = tail;
    let meaning = match marker {
        0xc4 => format!("bin {}", quoted(value.get(head..).unwrap_or_default())),
        0xa0..=0xbf | 0xd9 => quoted(value.get(head..).unwrap_or_default()),
        _ => meaning,
    };
    write_line(text, depth, value, &meaning);
    for _ in 0..children {
        write_value(text, rest, depth + 1);
    }
}

/// The low byte of a length of two bytes.
fn third(rest: &[u8]) -> u8 {
    *rest.get(2).expect("a length")
}

fn map(entries: u8) -> String {
    format!("map of {entries}")
}

fn array(elements: u8) -> String {
    format!("array of {elements}")
}

fn integer(rest: &[u8], bytes: usize) -> String {
    let digits = rest.get(1..=bytes).expect("an integer's bytes");
    let value = digits
        .iter()
        .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    match rest.first() {
        Some(0xd0..=0xd3) => (value << (64 - 8 * bytes)).cast_signed() >> (64 - 8 * bytes),
        _ => return value.to_string(),
    }
    .to_string()
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn write_line(text: &mut String, depth: usize, bytes: &[u8], meaning: &str) {
    let indent = "  ".repeat(depth);
    let mut rows = bytes.chunks(12).map(|row| {
        row.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" ")
    });
    let first = format!("{indent}{}", rows.next().unwrap_or_default());
    writeln!(text, "{first:<48}# {meaning}").expect("a String takes the text");
    for row in rows {
        writeln!(text, "{indent}{row}").expect("a String takes the text");
    }
}
