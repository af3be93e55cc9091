//! Luge: frames of MessagePack.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use luge_protocol::{Command as Request, Hello, HookOverride, Isolation, ModulePush};

use super::Level;
use crate::compare::request::{Argument, Ask, Place};
use crate::load::answer;
use crate::load::client::Dialect;
use crate::load::template::{KEY_DIGITS, Key, Template};
use crate::load::wire::Wire;

/// Built from `functions/workloads` by `LUGE_GUESTS=benches/functions udfs/build.sh`.
const FUNCTIONS: &[u8] = include_bytes!("../../../functions/built/workloads.wasm");

pub(super) fn command(program: &Path, address: SocketAddr, level: Level, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([
        "serve",
        "--listen",
        &address.to_string(),
        "--durability",
        level.name(),
    ]);
    command.arg("--data").arg(folder.join("data"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LUGE_") {
            command.env_remove(name);
        }
    }
    command
}

pub(super) fn dialect() -> Dialect {
    let hello = Hello {
        versions: vec![1],
        client: Some("luge-bench".into()),
        credentials: None,
    };
    Dialect {
        wire: Wire::Luge,
        banner: 0,
        hello: frame(&request(Request::Hello(hello))).bytes,
    }
}

/// Data is loaded by a module of its own: a module whose calls run long, as those do, is put behind others for a while,
/// and that is not what is measured.
const LOADER: &str = "load";

/// The functions under this name, which is that of their isolation, and those that load data.
pub(super) fn register(module: &'static str) -> Template {
    let isolation = match module {
        "reuse" => Isolation::Reuse,
        _ => Isolation::Fresh,
    };
    let mut both = push(module, hooked(module), isolation);
    both.append(&push(LOADER, "load:", Isolation::Reuse));
    both
}

/// A `ping`.
pub(super) fn ping() -> Template {
    one(&request(Request::Ping(luge_protocol::NoArguments {})))
}

/// The length of the module.
pub(super) const fn module_bytes() -> usize {
    FUNCTIONS.len()
}

/// A push of the functions under a name of their own, with bytes of their own; the first one checks what it is asked to.
pub(super) fn distinct_push(number: usize) -> Template {
    let name = format!("module-{number}");
    let prefix = if number == 0 { "hook:" } else { "other:" };
    // A custom section that has the number.
    let section = [0, 3, 1, b'n', u8::try_from(number).unwrap_or(u8::MAX)];
    let wasm = [FUNCTIONS, &section[..]].concat();
    push_of(&name, &wasm, prefix, Isolation::Fresh)
}

fn push(module: &str, prefix: &'static str, isolation: Isolation) -> Template {
    push_of(module, FUNCTIONS, prefix, isolation)
}

fn push_of(name: &str, wasm: &[u8], prefix: &'static str, isolation: Isolation) -> Template {
    let prefix = HookOverride {
        prefix: Some(prefix.into()),
        ..HookOverride::default()
    };
    one(&request(Request::ModulePush(Box::new(ModulePush {
        overrides: Some(vec![prefix]),
        isolation: Some(isolation),
        ..as_it_is(name, wasm)
    }))))
}

/// A push that changes nothing of what the module says of itself.
pub(super) fn plain_push(name: &str, wasm: &[u8]) -> Template {
    one(&request(Request::ModulePush(Box::new(as_it_is(
        name, wasm,
    )))))
}

fn as_it_is<'a>(name: &'a str, wasm: &'a [u8]) -> ModulePush<'a> {
    ModulePush {
        name: name.into(),
        wasm: wasm.into(),
        config: None,
        limits: None,
        overrides: None,
        inactive: None,
        dry_run: None,
        grant: None,
        isolation: None,
    }
}

/// Which keys the module's hook checks.
fn hooked(module: &str) -> &'static str {
    if module == "reuse" { "kept:" } else { "hook:" }
}

fn request(command: Request<'_>) -> Template {
    let mut template = Template::default();
    template.raw(&luge_protocol::Request::new(1, command).encode());
    template
}

fn frame(body: &Template) -> Template {
    let mut framed = Template::default();
    let length = u32::try_from(body.bytes.len()).unwrap_or(u32::MAX);
    framed.raw(&length.to_be_bytes());
    framed.append(body);
    framed
}

pub(super) fn encode(ask: &Ask, module: &str) -> Template {
    let mut body = Template::default();
    match ask {
        Ask::Get(place) => {
            begin(&mut body, "get", 1);
            key(&mut body, *place);
        }
        Ask::Set(place, value) | Ask::Insert(place, value) => {
            begin(&mut body, "set", 2);
            key(&mut body, *place);
            bin(&mut body, value.as_bytes());
        }
        Ask::CheckedSet(place, value) => {
            begin(&mut body, "set", 2);
            key(
                &mut body,
                Place {
                    prefix: hooked(module),
                    ..*place
                },
            );
            bin(&mut body, value.as_bytes());
        }
        Ask::Scan(place, limit) => {
            begin(&mut body, "scan", 3);
            body.raw(&[0xc0, 0x92]);
            key(&mut body, *place);
            // The first byte behind the colon that ends the prefix.
            bin(&mut body, place.prefix.replace(':', ";").as_bytes());
            unsigned(&mut body, *limit);
        }
        Ask::Call(function, arguments) => {
            let module = match function.starts_with("load_") {
                true => LOADER,
                false => module,
            };
            return call(&format!("{module}.{function}"), arguments);
        }
    }
    frame(&body)
}

pub(super) fn call(procedure: &str, arguments: &[Argument]) -> Template {
    let mut body = Template::default();
    begin(&mut body, "call", 2);
    text(&mut body, procedure);
    let packed = packed(arguments);
    bin_head(&mut body, packed.bytes.len());
    body.append(&packed);
    one(&body)
}

/// A call of the module whose name ends with the number that is drawn.
pub(super) fn call_drawn(prefix: &str, procedure: &str) -> Template {
    let mut body = Template::default();
    begin(&mut body, "call", 2);
    text_head(&mut body, prefix.len() + KEY_DIGITS + 1 + procedure.len());
    body.key(prefix, Key::Drawn);
    body.raw(format!(".{procedure}").as_bytes());
    bin(&mut body, &[]);
    one(&body)
}

/// The frame of a request that has one reply.
fn one(body: &Template) -> Template {
    let mut template = frame(body);
    template.replies = 1;
    template
}

/// A procedure takes one argument as it is, several as an array, and none as nothing.
fn packed(arguments: &[Argument]) -> Template {
    let mut packed = Template::default();
    if arguments.len() > 1 {
        packed.raw(&[0x90 | u8::try_from(arguments.len()).unwrap_or(0)]);
    }
    for argument in arguments {
        match argument {
            Argument::Key(place) => {
                text_head(&mut packed, place.prefix.len() + KEY_DIGITS);
                packed.key(place.prefix, place.key);
            }
            Argument::Text(value) => text(&mut packed, value),
            Argument::Number(number) => unsigned(&mut packed, *number),
        }
    }
    packed
}

fn begin(body: &mut Template, command: &str, arguments: u8) {
    body.raw(&[0x92, 1, 0x81]);
    text(body, command);
    body.raw(&[0x90 | arguments]);
}

fn key(body: &mut Template, place: Place) {
    bin_head(body, place.prefix.len() + KEY_DIGITS);
    body.key(place.prefix, place.key);
}

fn bin(body: &mut Template, bytes: &[u8]) {
    bin_head(body, bytes.len());
    body.raw(bytes);
}

fn bin_head(body: &mut Template, length: usize) {
    sized(body, [0xc4, 0xc5, 0xc6], length);
}

fn text(body: &mut Template, text: &str) {
    text_head(body, text.len());
    body.raw(text.as_bytes());
}

pub(super) fn text_head(body: &mut Template, length: usize) {
    match u8::try_from(length) {
        Ok(short @ 0..=31) => body.raw(&[0xa0 | short]),
        _ => sized(body, [0xd9, 0xda, 0xdb], length),
    }
}

fn sized(body: &mut Template, [one, two, four]: [u8; 3], length: usize) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) => body.raw(&[one, length]),
        (_, Ok(length)) => body.raw(&[&[two][..], &length.to_be_bytes()].concat()),
        _ => {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            body.raw(&[&[four][..], &length.to_be_bytes()].concat());
        }
    }
}

pub(super) fn unsigned(body: &mut Template, number: u32) {
    body.raw(&[&[0xce][..], &number.to_be_bytes()].concat());
}

pub(super) fn answer(ask: &Ask, reply: &[u8]) -> Result<Vec<String>, String> {
    let texts = answer::texts(Wire::Luge, reply)?;
    Ok(match ask {
        // [value, version]
        Ask::Get(_) => texts.into_iter().take(1).collect(),
        // [[[key, value, version]…], cursor, sequence]
        Ask::Scan(..) => {
            let entries = texts.chunks_exact(3).filter_map(|it| it.get(1).cloned());
            entries.collect()
        }
        Ask::Call(..) => answer::output(answer::call_output(reply).unwrap_or_default())?,
        _ => texts,
    })
}

#[cfg(test)]
mod tests {
    use luge_protocol::Request as Decoded;

    use super::*;
    use crate::compare::request::drawn;

    /// The request for the key 5, as the server reads it.
    fn read(ask: &Ask, module: &str) -> String {
        let mut out = Vec::new();
        encode(ask, module).write_at(5, &mut out);
        let length = u32::from_be_bytes(*out.first_chunk().unwrap()) as usize;
        assert_eq!(out.len(), 4 + length);
        format!("{:?}", Decoded::decode(&out[4..]).unwrap().command)
    }

    #[test]
    fn requests_are_what_the_server_reads() {
        let place = drawn("key:");
        for length in [1, 31, 32, 255, 256, 70_000] {
            let mut out = Vec::new();
            encode(&Ask::Set(place, "x".repeat(length)), "").write_at(5, &mut out);
            let Request::Set(set) = Decoded::decode(&out[4..]).unwrap().command else {
                panic!("not a set");
            };
            assert_eq!(set.value.0.len(), length);
        }
        assert!(read(&Ask::Get(place), "").starts_with("Get"));
        assert!(read(&Ask::Scan(place, 50), "").contains("limit: Some(50)"));
        let hooked = Ask::CheckedSet(drawn("hook:"), String::new());
        for (module, key) in [
            ("fresh", "hook:000000000005"),
            ("reuse", "kept:000000000005"),
        ] {
            let key = format!("{:?}", key.as_bytes());
            assert!(read(&hooked, module).contains(&key));
        }
    }

    #[test]
    fn arguments_of_calls_are_what_the_functions_read() {
        let another = Place {
            prefix: "acct:",
            key: Key::Another,
        };
        let arguments = vec![
            Argument::Key(drawn("acct:")),
            Argument::Key(another),
            Argument::Number(1),
        ];
        let mut out = Vec::new();
        encode(&Ask::Call("transfer", arguments), "fresh").write_at(5, &mut out);
        let Request::Call(call) = Decoded::decode(&out[4..]).unwrap().command else {
            panic!("not a call");
        };
        assert_eq!(call.procedure, "fresh.transfer");
        let read: (String, String, u32) = rmp_serde::from_slice(&call.arguments.0).unwrap();
        let expected = (
            "acct:000000000005".to_owned(),
            "acct:000000000006".to_owned(),
            1,
        );
        assert_eq!(read, expected);
        let loads = Ask::Call("load_filter", vec![Argument::Number(7)]);
        assert!(read_procedure(&loads).starts_with("load."));
    }

    #[test]
    fn a_module_is_called_by_the_number_that_is_drawn() {
        let template = call_drawn("m", "noop");
        assert_eq!(procedure(&template, 7), "m000000000007.noop");
        assert_eq!(template.replies, 1);
    }

    fn read_procedure(ask: &Ask) -> String {
        procedure(&encode(ask, "fresh"), 0)
    }

    fn procedure(template: &Template, number: u64) -> String {
        let mut out = Vec::new();
        template.write_at(number, &mut out);
        match Decoded::decode(&out[4..]).unwrap().command {
            Request::Call(call) => call.procedure.into_owned(),
            _ => String::new(),
        }
    }
}
