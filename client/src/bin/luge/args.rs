//! What is asked for on the command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use luge_client::{DEFAULT_PORT, Isolation, LogLevel, OnFailure};

use crate::units;

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 the key is absent, or an error, which is on standard error as
`error: CODE: message`; 2 wrong usage.

With --json a command prints one JSON document (watch: one a change; logs: one a line); errors stay as they are. Bytes that are not UTF-8
are {\"hex\": \"00ff\"} in it.
A value that begins with a hyphen stands behind `--`: luge set -- KEY -VALUE";

/// What stands apart from a command's own options in its help.
const GLOBAL: &str = "Options of every command";

/// The command line of the Luge key-value server.
#[derive(Debug, Parser)]
#[command(name = "luge", version, after_help = AFTER_HELP, infer_long_args = false)]
pub(crate) struct Arguments {
    /// The server [env: LUGE_ADDR] [default: 127.0.0.1:5843]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) addr: Option<String>,
    /// The token that proves who you are, as `luge-server token add` printed it [env: LUGE_TOKEN]
    ///
    /// Others on this machine may see the arguments of a program: better in the environment, or in a
    /// file.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "TOKEN")]
    pub(crate) token: Option<Token>,
    /// The file that has the token, in place of --token [env: LUGE_TOKEN_FILE]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// Connect by TLS, to a server whose certificate this system trusts [env: LUGE_TLS]
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) tls: bool,
    /// Connect by TLS, and trust the certificates in this file alone, in PEM form [env: LUGE_TLS_CA]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// The name that the server's certificate has, where it is not the host of --addr
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "NAME")]
    pub(crate) tls_name: Option<String>,
    /// Print one JSON document
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Answer once what is written is on disk, also where the server's durability asks for less
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) durable: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A token. Its `Debug` form leaves it out.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) String);

impl From<&str> for Token {
    fn from(token: &str) -> Self {
        Self(token.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store a value
    ///
    /// Without --ttl and --keep-ttl the key does not expire.
    Set(Set),
    /// Print the value of a key
    ///
    /// An absent key prints nothing (with --json: null) and exits 1. On a terminal, control characters
    /// and bytes that are not UTF-8 are escaped. Elsewhere the value is written as it is, with a
    /// newline behind it if it is text.
    Get {
        /// The key, as it is
        key: OsString,
    },
    /// Print the values of several keys, one a line; an absent key is an empty line
    Mget {
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<OsString>,
    },
    /// Delete keys, and print how many were present
    ///
    /// Keys that are named are deleted at once; those of a prefix in transactions of 1,000, so that others may see a part of
    /// them gone.
    Del {
        #[arg(required_unless_present = "prefix", value_name = "KEY")]
        keys: Vec<OsString>,
        /// Delete every key that begins so, in place of keys that are named
        #[arg(long, value_name = "PREFIX", value_parser = prefix(), conflicts_with = "keys")]
        prefix: Option<OsString>,
    },
    /// Print how many of the keys are present
    Exists {
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<OsString>,
    },
    /// Add to the number that a key holds, and print the result; an absent key holds 0
    Incr {
        /// The key, as it is
        key: OsString,
        /// What to add
        #[arg(
            default_value_t = 1,
            allow_negative_numbers = true,
            value_name = "N",
            value_parser = units::whole::<i64>
        )]
        delta: i64,
    },
    /// Print how long a key will live, such as 9500ms, or `never`; an absent key exits 1
    Ttl {
        /// The key, as it is
        key: OsString,
    },
    /// Give a key a time to live; an absent key exits 1
    Expire {
        /// The key, as it is
        key: OsString,
        /// Such as 300ms, 10s, 5m, 2h, 1d
        #[arg(value_parser = units::duration, value_name = "TIME", allow_hyphen_values = true)]
        ttl: Duration,
    },
    /// Take a key's time to live away; exits 1 if it has none
    Persist {
        /// The key, as it is
        key: OsString,
    },
    /// Print entries in the order of their keys: key, tab, value
    ///
    /// Tabs, newlines, backslashes, control characters and bytes that are not UTF-8 are escaped (\t, \n,
    /// \\, \x1b), so that an entry is one line.
    Scan(Scan),
    /// Register, activate, roll back, show and remove modules
    #[command(subcommand)]
    Module(Module),
    /// Call a procedure, and print what it returns as JSON
    ///
    /// The arguments are JSON, which is sent as MessagePack; none are null. Integers have up to 64 bits;
    /// larger ones become floating-point numbers.
    Call(Call),
    /// Print the requests that run functions, one a line
    ///
    /// What it has used is that of the function that runs, as of its last tick, a millisecond ago or
    /// less; fuel, as of its last call of another function.
    Ps,
    /// End a call that `ps` shows: it is answered `killed`, and nothing of it is written
    Kill {
        /// Its id
        #[arg(value_name = "ID", value_parser = units::whole::<u64>)]
        call: u64,
    },
    /// Print what functions logged, one line each: time, level, call, function, text
    ///
    /// The server keeps the latest lines in memory, up to max_guest_log_lines: a restart begins without any.
    /// Control characters in them are escaped. Columns stand between tabs.
    Logs(Logs),
    /// Print changes as they are committed, one a line: sequence, change, key, value
    ///
    /// A change is set, del, or expire: the key's time had come, and its entry was removed. Columns stand between tabs, and are escaped as with scan. With
    /// --json each line is a document. It goes on until it is interrupted, or --count is reached.
    Watch(Watch),
    /// Write a copy of the whole store, as of one moment, to a file
    ///
    /// The server goes on meanwhile. The file gets its name once it is whole and on disk.
    /// `luge-server restore` makes a store of it.
    Backup(Backup),
    /// Wait until everything that was acknowledged before is on disk
    Flush,
    /// Print how the server is
    Info,
    /// Ask the server for a sign of life
    Ping,
}

/// A prefix that is not every key's.
fn prefix() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|prefix| match prefix.is_empty() {
        true => Err("every key begins so; name a prefix of at least one byte"),
        false => Ok(prefix),
    })
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The key, as it is
    pub(crate) key: OsString,
    /// The value, as it is; - reads it from standard input
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: OsString,
    /// When the key expires: 300ms, 10s, 5m, 2h, 1d [default: never]
    #[arg(
        long,
        value_parser = units::duration,
        value_name = "TIME",
        allow_hyphen_values = true,
        conflicts_with = "keep_ttl"
    )]
    pub(crate) ttl: Option<Duration>,
    /// Keep the expiry that the key has
    #[arg(long)]
    pub(crate) keep_ttl: bool,
    /// Only if the key is absent, else `precondition_failed`
    #[arg(long, conflicts_with = "if_version")]
    pub(crate) if_absent: bool,
    /// Only if the key has this version (0: is absent), else `precondition_failed`
    #[arg(long, value_name = "N", value_parser = units::whole::<u64>)]
    pub(crate) if_version: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// The keys that begin so [default: every key]
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: OsString,
    /// The most entries to print; 0 for all. Standard error tells when there are more
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = units::whole::<usize>)]
    pub(crate) limit: usize,
    /// Print the keys alone
    #[arg(long)]
    pub(crate) keys: bool,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The keys that begin so [default: every key]
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: OsString,
    /// Leave the values out
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Begin with the changes of this commit, as far as the server still has them [default: from now on]
    #[arg(long, value_name = "SEQUENCE", value_parser = units::whole::<u64>)]
    pub(crate) from: Option<u64>,
    /// End after so many changes
    #[arg(long, value_name = "N", value_parser = units::whole::<u64>)]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The module whose lines are wanted [default: all of them]
    pub(crate) module: Option<String>,
    /// Go on with new lines as they come, until it is interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only lines of this level or a more serious one
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<Level>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Where the copy goes
    pub(crate) file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Module {
    /// Register a module, or a new version of it, and put it in force
    ///
    /// Bytes and settings that are kept already make no new version: that one is put in force.
    Push(Box<Push>),
    /// Put a version in force that is kept
    Activate {
        name: String,
        /// Its number, as `module list` has it
        #[arg(value_parser = units::whole::<u64>)]
        version: u64,
    },
    /// Put the version in force that was active before this one
    ///
    /// Again, it goes back further. It never returns to what was rolled back from; `module activate`
    /// does.
    Rollback { name: String },
    /// Print every version of every module, one a line
    List,
    /// Print a version in full
    Show {
        name: String,
        /// Its number [default: the active one; the newest where none is]
        #[arg(value_parser = units::whole::<u64>)]
        version: Option<u64>,
    },
    /// Print what was counted of functions, one a line: calls, errors, conflicts, times, fuel, memory
    ///
    /// Since the server's start, for the versions that are kept. Below stands what hooks added to commands,
    /// those of all modules together; for a module none of whose hooks ran, it is left out.
    Stats {
        /// The module [default: all of them]
        name: Option<String>,
    },
    /// Remove a module with all its versions
    Remove { name: String },
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("changes").multiple(true)))]
pub(crate) struct Push {
    /// 1 to 64 letters, digits, _ and -, beginning with a letter
    pub(crate) name: String,
    /// A WebAssembly binary (.wasm) or its text form (.wat)
    pub(crate) file: PathBuf,
    /// A setting that the module's functions read; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) config: Vec<(String, String)>,
    /// Fuel of each attempt of a call
    #[arg(long, value_name = "N", value_parser = units::whole::<u64>)]
    pub(crate) fuel: Option<u64>,
    /// Linear memory: 16MiB, 64KiB, or bytes
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) memory: Option<u64>,
    /// Time running of each attempt of a call, such as 50ms
    #[arg(long, value_name = "TIME", value_parser = units::duration, allow_hyphen_values = true)]
    pub(crate) cpu: Option<Duration>,
    /// Wall clock of a call, all attempts together, such as 1s
    #[arg(long, value_name = "TIME", value_parser = units::duration, allow_hyphen_values = true)]
    pub(crate) deadline: Option<Duration>,
    /// Requests that run the module's functions at once; others wait
    #[arg(long, value_name = "N", value_parser = units::whole::<u64>)]
    pub(crate) running_calls: Option<u64>,
    /// The prefix of keys that the module's hooks run for, all of them unless --hook names one, in
    /// place of their own
    #[arg(long, value_name = "PREFIX", group = "changes")]
    pub(crate) prefix: Option<OsString>,
    /// The place of the module's hooks among all hooks, in place of their own
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        value_parser = units::whole::<i32>,
        group = "changes"
    )]
    pub(crate) order: Option<i32>,
    /// What a hook's failure means for the request, in place of their own
    #[arg(long, value_name = "RULE", group = "changes")]
    pub(crate) on_failure: Option<Rule>,
    /// The one hook that --prefix, --order and --on-failure are for [default: all of the module]
    #[arg(long, value_name = "NAME", requires = "changes")]
    pub(crate) hook: Option<String>,
    /// A prefix of keys that the module's functions may read, of those that it asks for; may be given more than
    /// once; an empty one, '', is every key. With any of --grant-read and --grant-write, nothing is granted but
    /// what they name [default: all that it asks for, which is every key where it asks for none]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) grant_read: Vec<OsString>,
    /// The same for keys that they may write
    #[arg(long, value_name = "PREFIX")]
    pub(crate) grant_write: Vec<OsString>,
    /// Grant no key at all
    #[arg(long, conflicts_with_all = ["grant_read", "grant_write"])]
    pub(crate) grant_none: bool,
    /// Whether instances are kept between requests, in place of what the module says
    #[arg(long, value_name = "HOW")]
    pub(crate) isolation: Option<How>,
    /// Keep the version without putting it in force; `module activate` does that later
    #[arg(long)]
    pub(crate) inactive: bool,
    /// Check the module and print what the push would do: exports, grants, hooks and what they filter; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    /// The request is refused
    Block,
    /// The hook is passed over: it fails open
    Continue,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The name of the module, and of a procedure that it has
    #[arg(value_name = "MODULE.PROCEDURE")]
    pub(crate) procedure: String,
    /// The arguments as JSON; - reads them from standard input
    #[arg(
        value_name = "JSON",
        allow_negative_numbers = true,
        conflicts_with = "raw"
    )]
    pub(crate) arguments: Option<String>,
    /// The arguments as bytes, which are sent as they are; what comes back is printed as it is.
    /// - reads them from standard input
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) raw: Option<OsString>,
    /// Run it to its end, write nothing, and print what it would have written and what it used. Where a
    /// server has tokens it takes the role deploy
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum How {
    /// Each request has instances of its own
    Fresh,
    /// Instances are kept, with what is in their memory
    Reuse,
}

impl From<How> for Isolation {
    fn from(how: How) -> Self {
        match how {
            How::Fresh => Self::Fresh,
            How::Reuse => Self::Reuse,
        }
    }
}

impl From<Rule> for OnFailure {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Block => Self::Block,
            Rule::Continue => Self::Continue,
        }
    }
}

/// A host without a port gets the default one.
pub(crate) fn address(text: &str) -> Result<String, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!(
            "an address is HOST:PORT and has no `{scheme}://`, as in `{}`; for TLS there is --tls",
            rest.trim_end_matches('/')
        ));
    }
    let has_port = match text.rsplit_once(':') {
        None => false,
        Some((host, _)) if text.ends_with(']') => host.is_empty(),
        Some((_, port)) => {
            if port.parse::<u16>().is_err() {
                return Err(format!(
                    "`{port}` is not a port, which is a number up to {}",
                    u16::MAX
                ));
            }
            true
        }
    };
    match has_port {
        _ if text.is_empty() => Err("an address is HOST:PORT".to_owned()),
        true => Ok(text.to_owned()),
        false => Ok(format!("{text}:{DEFAULT_PORT}")),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a setting is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("luge").chain(line.split(' ')))
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_host_without_a_port_gets_the_default_port() {
        for (text, expected) in [
            ("localhost", "localhost:5843"),
            ("localhost:1", "localhost:1"),
            ("[::1]", "[::1]:5843"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(address(text).as_deref(), Ok(expected));
        }
        assert!(address("localhost:http").is_err());
        assert!(address("").is_err());
        assert_eq!(
            address("http://db:5843/").unwrap_err(),
            "an address is HOST:PORT and has no `http://`, as in `db:5843`; for TLS there is --tls"
        );
    }

    #[test]
    fn negative_numbers_are_values_and_amounts() {
        let Command::Set(set) = parse("set k -5").unwrap().command else {
            panic!("not a set");
        };
        assert_eq!(set.value, "-5");
        let Command::Incr { delta, .. } = parse("incr k -5").unwrap().command else {
            panic!("not an incr");
        };
        assert_eq!(delta, -5);
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        assert!(parse("set k v --ttl 10s --keep-ttl").is_err());
        assert!(parse("set k v --if-absent --if-version 3").is_err());
        assert!(parse("call m.p {} --raw x").is_err());
        assert!(parse("del").is_err());
        assert!(parse("module push m f --hook h").is_err());
        assert!(parse("module push m f --hook h --prefix p --order 1").is_ok());
        assert!(parse("module push m f --inactive --dry-run").is_ok());
        assert!(parse("module activate m").is_err());
        assert!(parse("module activate m -1").is_err());
    }

    #[test]
    fn a_call_takes_json_as_its_arguments_beside_json_as_its_form() {
        let arguments = parse("call m.p [1] --json").unwrap();
        let Command::Call(call) = arguments.command else {
            panic!("not a call");
        };
        assert_eq!(call.arguments.as_deref(), Some("[1]"));
        assert!(arguments.json);
    }

    #[test]
    fn options_of_the_program_may_stand_behind_the_command() {
        let arguments = parse("get k --json --addr other:1").unwrap();
        assert!(arguments.json && !arguments.durable);
        assert_eq!(arguments.addr.as_deref(), Some("other:1"));
        assert!(parse("set k v --durable").unwrap().durable);
    }

    #[test]
    fn a_token_is_in_no_debug_form() {
        let arguments = parse("--token open-sesame ping").unwrap();
        assert!(!format!("{arguments:?}").contains("sesame"));
        assert_eq!(arguments.token.unwrap().0, "open-sesame");
    }

    #[test]
    fn a_setting_is_split_at_its_first_equals_sign() {
        let expected = ("a".to_owned(), "b=c".to_owned());
        assert_eq!(setting("a=b=c"), Ok(expected));
        assert!(setting("=b").is_err());
        assert!(setting("ab").is_err());
    }
}
