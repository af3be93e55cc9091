//! Requests: `[id, {command: arguments}]`, with options as an optional third element.
//!
//! The outer shape is read by hand, so that an error in the arguments can be told under the
//! request's own id, and so that an unknown command is named.

use rmp::decode;
use serde::{Deserialize, Serialize};

use crate::arguments::{
    Batch, Call, CallsKill, Del, Exists, Expire, Get, Hello, Incr, Logs, Mget, ModuleActivate,
    ModuleName, ModulePush, ModuleShow, ModuleStats, NoArguments, Persist, Scan, Set, Stop, Ttl,
    Watch,
};
use crate::error::DecodeError;

/// The client's number for a request, echoed in its response.
pub type RequestId = u64;

/// The deepest nesting of arrays and maps that a request or response is read to.
pub(crate) const MAX_DEPTH: usize = 32;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The client's number for it.
    pub id: RequestId,
    /// What is asked for.
    pub command: Command<'a>,
    /// How.
    pub options: Options,
}

/// How a request is to be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// When the reply to a write may be sent; never weaker than the server's own rule.
    pub durability: Option<Durability>,
    /// Wall clock from the request's arrival, in milliseconds.
    pub deadline_ms: Option<u64>,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Once it is on disk.
    Always,
}

macro_rules! commands {
    ($($variant:ident($arguments:ty) $name:literal)*) => {
        /// The commands of protocol version 1.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Command<'a> {
            $(#[doc = concat!("`", $name, "`")] $variant($arguments),)*
        }

        impl Command<'_> {
            /// Every command's name, in the order of the specification.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The name on the wire.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// The place of the name among [`Self::NAMES`].
            #[must_use]
            pub fn index(&self) -> usize {
                enum Place { $($variant),* }
                match self { $(Self::$variant(_) => Place::$variant as usize,)* }
            }

            fn encode_arguments(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
                match self { $(Self::$variant(arguments) => rmp_serde::to_vec(arguments),)* }
            }
        }

        impl<'a> Command<'a> {
            fn decode(name: &str, source: &mut Source<'a>) -> Result<Self, String> {
                match name {
                    $($name => {
                        let arguments: $arguments = Deserialize::deserialize(source)
                            .map_err(|error| format!("{name}: {error}"))?;
                        Ok(Self::$variant(arguments))
                    })*
                    unknown => Err(unknown_command(unknown)),
                }
            }
        }
    };
}

commands! {
    Hello(Hello<'a>) "hello"
    Ping(NoArguments) "ping"
    Info(NoArguments) "info"
    Get(Get<'a>) "get"
    Set(Set<'a>) "set"
    Del(Del<'a>) "del"
    Exists(Exists<'a>) "exists"
    Expire(Expire<'a>) "expire"
    Ttl(Ttl<'a>) "ttl"
    Persist(Persist<'a>) "persist"
    Incr(Incr<'a>) "incr"
    Mget(Mget<'a>) "mget"
    Scan(Scan<'a>) "scan"
    Batch(Batch<'a>) "batch"
    Call(Call<'a>) "call"
    ModulePush(Box<ModulePush<'a>>) "module.push"
    ModuleList(NoArguments) "module.list"
    ModuleShow(ModuleShow<'a>) "module.show"
    ModuleActivate(ModuleActivate<'a>) "module.activate"
    ModuleRollback(ModuleName<'a>) "module.rollback"
    ModuleRemove(ModuleName<'a>) "module.remove"
    ModuleStats(ModuleStats<'a>) "module.stats"
    CallsList(NoArguments) "calls.list"
    CallsKill(CallsKill) "calls.kill"
    Logs(Logs<'a>) "logs"
    Watch(Watch<'a>) "watch"
    Flush(NoArguments) "flush"
    Backup(NoArguments) "backup"
    Stop(Stop) "stop"
}

pub(crate) type Source<'a> = rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'a, [u8]>>;

impl<'a> Request<'a> {
    /// A request without options.
    #[must_use]
    pub fn new(id: RequestId, command: Command<'a>) -> Self {
        Self {
            id,
            command,
            options: Options::default(),
        }
    }

    /// Decodes a body. Keys and values borrow from it.
    ///
    /// # Errors
    /// Names what is wrong, under the request's id where the body got that far.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut rest = body;
        let elements = decode::read_array_len(&mut rest)
            .map_err(|_| DecodeError::new("a request is an array: [id, {command: arguments}]"))?;
        if !(2..=3).contains(&elements) {
            return Err(DecodeError::new(format!(
                "a request has 2 or 3 elements ([id, {{command: arguments}}, options]), not {elements}"
            )));
        }
        let id: u64 = decode::read_int(&mut rest)
            .map_err(|_| DecodeError::new("a request's id is an unsigned integer"))?;
        let name = read_command_name(&mut rest).map_err(|message| DecodeError::of(id, message))?;
        let mut source = Source::from_read_ref(rest);
        source.set_max_depth(MAX_DEPTH);
        let command =
            Command::decode(name, &mut source).map_err(|message| DecodeError::of(id, message))?;
        let options = match elements {
            2 => Options::default(),
            _ => Option::deserialize(&mut source)
                .map_err(|error| DecodeError::of(id, format!("options: {error}")))?
                .unwrap_or_default(),
        };
        if !is_at_end(&mut source) {
            return Err(DecodeError::of(id, "bytes follow the request in its frame"));
        }
        Ok(Self {
            id,
            command,
            options,
        })
    }

    /// Encodes the request as a body, arguments as an array.
    ///
    /// # Panics
    /// Never: every part of a request has a MessagePack form, and memory takes the bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let arguments = self
            .command
            .encode_arguments()
            .expect("arguments encode into memory");
        let name = self.command.name();
        let mut body = Vec::with_capacity(arguments.len() + name.len() + 16);
        let options = (self.options != Options::default()).then_some(&self.options);
        write_head(&mut body, self.id, name, 2 + u32::from(options.is_some()))
            .expect("memory takes the bytes");
        body.extend_from_slice(&arguments);
        if let Some(options) = options {
            rmp_serde::encode::write_named(&mut body, options).expect("options encode into memory");
        }
        body
    }
}

fn write_head(
    body: &mut Vec<u8>,
    id: u64,
    name: &str,
    elements: u32,
) -> Result<(), rmp::encode::ValueWriteError> {
    rmp::encode::write_array_len(body, elements)?;
    rmp::encode::write_uint(body, id)?;
    rmp::encode::write_map_len(body, 1)?;
    rmp::encode::write_str(body, name)
}

fn read_command_name<'a>(rest: &mut &'a [u8]) -> Result<&'a str, String> {
    let form = "a request's second element is a map of one entry: {command: arguments}";
    let entries = decode::read_map_len(rest).map_err(|_| form.to_owned())?;
    if entries != 1 {
        return Err(format!("{form}, not of {entries}"));
    }
    let (name, tail) =
        decode::read_str_from_slice(*rest).map_err(|_| "a command's name is a str".to_owned())?;
    *rest = tail;
    Ok(name)
}

fn unknown_command(name: &str) -> String {
    let shown: String = name
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    format!(
        "unknown command `{shown}`; the commands are {}",
        Command::NAMES.join(", ")
    )
}

/// Whether nothing follows. Asks for a value that is never nested, so that only a missing first byte
/// is taken for the end.
pub(crate) fn is_at_end(source: &mut Source<'_>) -> bool {
    use rmp_serde::decode::Error::InvalidMarkerRead;
    let next = bool::deserialize(source);
    matches!(next, Err(InvalidMarkerRead(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof)
}
