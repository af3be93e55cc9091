//! Tarantool: IPROTO, a length, a header and a body of MessagePack. Keys and values are rows of the space 512.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::Level;
use super::luge::{text_head, unsigned};
use crate::compare::request::{Argument, Ask, Place};
use crate::load::answer;
use crate::load::client::Dialect;
use crate::load::template::{KEY_DIGITS, Template};
use crate::load::wire::Wire;

const SCRIPT: &str = include_str!("../../../functions/peers/workloads_tarantool.lua");

// Numbers of the protocol.
const SELECT: u8 = 1;
const REPLACE: u8 = 3;
const CALL: u8 = 10;
const EQUAL: u8 = 0;
const AT_LEAST: u8 = 5;

pub(super) fn command(
    program: &Path,
    address: SocketAddr,
    level: Level,
    folder: &Path,
) -> Result<Command, String> {
    let script = folder.join("workloads.lua");
    std::fs::write(&script, SCRIPT)
        .map_err(|error| format!("can't write {}: {error}", script.display()))?;
    let mut command = Command::new(program);
    command.arg(script).current_dir(folder);
    command.env("LUGE_BENCH_LISTEN", address.to_string());
    let mode = match level {
        Level::Everysec => "write",
        Level::Always => "fsync",
    };
    command.env("LUGE_BENCH_WAL", mode);
    Ok(command)
}

pub(super) const fn dialect() -> Dialect {
    Dialect {
        wire: Wire::Iproto,
        banner: 128,
        hello: Vec::new(),
    }
}

pub(super) fn encode(ask: &Ask) -> Template {
    match ask {
        Ask::Get(place) => select(*place, 1, EQUAL),
        Ask::Scan(place, limit) => select(*place, *limit, AT_LEAST),
        Ask::Set(place, value) | Ask::Insert(place, value) => {
            let mut body = Template::default();
            // {space: 512, tuple: [key, value]}
            body.raw(b"\x82\x10\xcd\x02\x00\x21\x92");
            key(&mut body, *place);
            text(&mut body, value);
            whole(REPLACE, &body)
        }
        Ask::CheckedSet(place, value) => call(
            "checked_set",
            &[Argument::Key(*place), Argument::Text(value.clone())],
        ),
        Ask::Call(function, arguments) => call(function, arguments),
    }
}

fn select(place: Place, limit: u32, iterator: u8) -> Template {
    let mut body = Template::default();
    // {space: 512, index: 0, limit, offset: 0, iterator, key: [key]}
    body.raw(b"\x86\x10\xcd\x02\x00\x11\x00\x12");
    unsigned(&mut body, limit);
    body.raw(&[0x13, 0, 0x14, iterator, 0x20, 0x91]);
    key(&mut body, place);
    whole(SELECT, &body)
}

fn call(function: &str, arguments: &[Argument]) -> Template {
    let mut body = Template::default();
    // {name, tuple: arguments}
    body.raw(b"\x82\x22");
    text(&mut body, function);
    body.raw(&[0x21, 0x90 | u8::try_from(arguments.len()).unwrap_or(0)]);
    for argument in arguments {
        match argument {
            Argument::Key(place) => key(&mut body, *place),
            Argument::Text(value) => text(&mut body, value),
            Argument::Number(number) => unsigned(&mut body, *number),
        }
    }
    whole(CALL, &body)
}

fn whole(kind: u8, body: &Template) -> Template {
    // {type: kind, sync: 1}
    let header = [0x82, 0x00, kind, 0x01, 0x01];
    let mut whole = Template::default();
    unsigned(
        &mut whole,
        u32::try_from(header.len() + body.bytes.len()).unwrap_or(u32::MAX),
    );
    whole.raw(&header);
    whole.append(body);
    whole
}

fn key(body: &mut Template, place: Place) {
    text_head(body, place.prefix.len() + KEY_DIGITS);
    body.key(place.prefix, place.key);
}

fn text(body: &mut Template, text: &str) {
    text_head(body, text.len());
    body.raw(text.as_bytes());
}

pub(super) fn answer(ask: &Ask, reply: &[u8]) -> Result<Vec<String>, String> {
    let texts = answer::texts(Wire::Iproto, reply)?;
    Ok(match ask {
        // Rows of a key and a value.
        Ask::Get(_) | Ask::Scan(..) => texts.into_iter().skip(1).step_by(2).collect(),
        _ => texts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::request::drawn;

    #[test]
    fn requests_have_a_length_a_header_and_a_body() {
        let mut out = Vec::new();
        encode(&Ask::Call("spin", vec![Argument::Number(7)])).write_at(0, &mut out);
        let expected = b"\xce\0\0\0\x13\x82\x00\x0a\x01\x01\x82\x22\xa4spin\x21\x91\xce\0\0\0\x07";
        assert_eq!(out, expected);
        out.clear();
        encode(&Ask::Set(drawn("k:"), "v".to_owned())).write_at(3, &mut out);
        assert_eq!(out.len(), 5 + usize::from(out[4]));
        assert!(out.ends_with(b"\x92\xaek:000000000003\xa1v"));
    }
}
