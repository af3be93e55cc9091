//! Redis and Valkey: arrays of strings.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::Level;
use crate::compare::request::{Argument, Ask, Place};
use crate::load::answer;
use crate::load::client::Dialect;
use crate::load::template::{KEY_DIGITS, Template};
use crate::load::wire::Wire;

const FUNCTIONS: &str = include_str!("../../../functions/peers/workloads.lua");

pub(super) fn command(program: &Path, address: SocketAddr, level: Level, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args([
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        level.name(),
    ]);
    command.args(["--daemonize", "no", "--protected-mode", "no"]);
    command.arg("--dir").arg(folder);
    command
}

pub(super) const fn dialect() -> Dialect {
    Dialect {
        wire: Wire::Resp,
        banner: 0,
        hello: Vec::new(),
    }
}

pub(super) fn register() -> Template {
    let words = ["FUNCTION", "LOAD", "REPLACE", FUNCTIONS];
    let mut template = command_of(words.iter().map(|it| Word::Text(it)));
    template.replies = 1;
    template
}

enum Word<'a> {
    Text(&'a str),
    Owned(String),
    Key(Place),
}

fn command_of<'a>(words: impl Iterator<Item = Word<'a>>) -> Template {
    let mut template = Template::default();
    let mut count = 0;
    let mut tail = Template::default();
    for word in words {
        count += 1;
        let length = match &word {
            Word::Text(text) => text.len(),
            Word::Owned(text) => text.len(),
            Word::Key(place) => place.prefix.len() + KEY_DIGITS,
        };
        tail.raw(format!("${length}\r\n").as_bytes());
        match word {
            Word::Text(text) => tail.raw(text.as_bytes()),
            Word::Owned(text) => tail.raw(text.as_bytes()),
            Word::Key(place) => tail.key(place.prefix, place.key),
        }
        tail.raw(b"\r\n");
    }
    template.raw(format!("*{count}\r\n").as_bytes());
    template.append(&tail);
    template
}

pub(super) fn encode(ask: &Ask) -> Template {
    let text = |text| Word::Text(text);
    match ask {
        Ask::Get(place) => command_of([text("GET"), Word::Key(*place)].into_iter()),
        Ask::Set(place, value) => {
            command_of([text("SET"), Word::Key(*place), text(value)].into_iter())
        }
        Ask::Insert(place, value) => call(
            "insert",
            &[Argument::Key(*place), Argument::Text(value.clone())],
        ),
        Ask::Scan(place, limit) => call("scan", &[Argument::Key(*place), Argument::Number(*limit)]),
        Ask::CheckedSet(place, value) => call(
            "checked_set",
            &[Argument::Key(*place), Argument::Text(value.clone())],
        ),
        Ask::Call(function, arguments) => call(function, arguments),
    }
}

fn call(function: &str, arguments: &[Argument]) -> Template {
    let keys = arguments.iter().filter_map(|it| match it {
        Argument::Key(place) => Some(Word::Key(*place)),
        _ => None,
    });
    let others = arguments.iter().filter_map(|it| match it {
        Argument::Key(_) => None,
        Argument::Text(text) => Some(Word::Text(text)),
        Argument::Number(number) => Some(Word::Owned(number.to_string())),
    });
    let count = Word::Owned(keys.clone().count().to_string());
    let head = [Word::Text("FCALL"), Word::Text(function), count];
    command_of(head.into_iter().chain(keys).chain(others))
}

pub(super) fn answer(reply: &[u8]) -> Result<Vec<String>, String> {
    answer::texts(Wire::Resp, reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::request::drawn;

    fn written(ask: &Ask) -> String {
        let mut out = Vec::new();
        encode(ask).write_at(5, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_are_arrays_of_strings() {
        let get = "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000005\r\n";
        assert_eq!(written(&Ask::Get(drawn("key:"))), get);
        let arguments = vec![Argument::Number(12), Argument::Key(drawn("a:"))];
        let call =
            "*5\r\n$5\r\nFCALL\r\n$4\r\nspin\r\n$1\r\n1\r\n$14\r\na:000000000005\r\n$2\r\n12\r\n";
        assert_eq!(written(&Ask::Call("spin", arguments)), call);
    }
}
