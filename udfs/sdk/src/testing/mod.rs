//! Runs functions natively, against a store in memory: `cargo test`, and no server.
//!
//! Each attribute makes a type of its function's name, by which [`Host`] runs it as the server would: the
//! arguments are encoded and decoded, the code and the output are read, and what failed is undone.
//!
//! ```
//! use luge_udf::testing::{Answer, Exchange, Host};
//! use luge_udf::{Block, Request, hook, kv, procedure};
//!
//! #[procedure]
//! fn append(more: String) -> Result<usize, &'static str> {
//!     let text = kv::text("notes").unwrap_or_default() + &more;
//!     kv::set("notes", &text);
//!     if text.len() > 10 { Err("too long") } else { Ok(text.len()) }
//! }
//!
//! #[hook(request, commands = "set", prefix = "notes")]
//! fn no_shouting(request: &Request) -> Result<(), Block> {
//!     if request.value().is_some_and(|value| value.contains(&b'!')) {
//!         return Err("do not shout".into());
//!     }
//!     Ok(())
//! }
//!
//! let mut host = Host::new();
//! assert_eq!(host.call::<append>("hello ").reply::<usize>(), 6);
//! assert_eq!(host.call::<append>("everyone").refusal::<String>(), "too long");
//! assert_eq!(host.text("notes").as_deref(), Some("hello "));
//!
//! let hooked = host.hook::<no_shouting>(&Exchange::set("notes", "hello!"));
//! assert_eq!(hooked.answer, Answer::Block("do not shout".to_owned()));
//! ```
//!
//! The store behaves as the server's does: shared cases in `cases/` are run against both. A call that would
//! trap panics here, which [`Host`] reports as [`Outcome::Trapped`]. Not played: fuel, time and memory (nothing
//! is measured), the number of writes, conflicts with other calls, and the order of several hooks.

mod call;
mod exchange;
mod grant;
pub(crate) mod host;
mod outcome;
mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::export::{Function, Kind, Module};
use crate::log::Level;
use crate::{kv, message_pack};

use call::{Call, Phase};
use grant::Granted;
use store::Store;

pub use call::Context;
pub use exchange::{Answer, Exchange, Hooked};
pub use outcome::Outcome;

/// What plays the server: a store, a clock, a configuration, and who is asking.
///
/// The clock stands at 2023-11-14 22:13:20 UTC until it is moved, and random numbers are the same in each run,
/// so that a test gives the same result every time.
#[derive(Debug, Clone)]
pub struct Host {
    /// What [`crate::context`] tells the function.
    pub context: Context,
    /// The clock, in milliseconds since 1970.
    pub now_ms: i64,
    /// From which the next call's random bytes are made.
    pub random_seed: u64,
    store: Store,
    grant: Option<Granted>,
    config: BTreeMap<String, Vec<u8>>,
    logs: Vec<(Level, String)>,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// An empty store, without configuration, asked by a peer at 127.0.0.1.
    #[must_use]
    pub fn new() -> Self {
        Self {
            context: Context::default(),
            now_ms: 1_700_000_000_000,
            random_seed: 1,
            store: Store::default(),
            grant: None,
            config: BTreeMap::new(),
            logs: Vec::new(),
        }
    }

    /// The same, with the keys granted that the module asks for; without a grant functions may use every key.
    ///
    /// `module!` makes the type: `Host::of::<module>()`.
    #[must_use]
    pub fn of<M: Module>() -> Self {
        let host = Self::new();
        match M::GRANT {
            Some(grant) => host.with_grant(grant.read, grant.write),
            None => host,
        }
    }

    /// The same with these prefixes of keys granted, to read and to write, and no others.
    #[must_use]
    pub fn with_grant<P: AsRef<[u8]>>(mut self, read: &[P], write: &[P]) -> Self {
        self.grant = Some(Granted::new(read, write));
        self
    }

    /// The same with an entry of the configuration.
    #[must_use]
    pub fn with_config(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.config.insert(name.to_owned(), value.as_ref().to_vec());
        self
    }

    /// Moves the clock; what has expired by then is gone.
    pub fn advance(&mut self, time: Duration) {
        self.now_ms += i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    }

    /// Everything logged so far.
    #[must_use]
    pub fn logs(&self) -> &[(Level, String)] {
        &self.logs
    }

    /// Reads and writes the store in a transaction of its own, with [`kv`]: to prepare a test, and to look at
    /// what came out. A panic undoes it, and goes on.
    pub fn transaction<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let (call, result) = self.new_call(Phase::Transaction).run(run);
        match result {
            Ok(value) => {
                self.finish(call, true);
                value
            }
            Err(panic) => {
                self.finish(call, false);
                std::panic::resume_unwind(panic)
            }
        }
    }

    /// Writes a value.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.transaction(|| kv::set(key, value));
    }

    /// Reads a value.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.transaction(|| kv::get(key))
    }

    /// Reads a value as text.
    pub fn text(&mut self, key: impl AsRef<[u8]>) -> Option<String> {
        self.transaction(|| kv::text(key))
    }

    /// All keys that begin so, as text, with their values.
    pub fn entries(&mut self, prefix: &str) -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        self.transaction(|| {
            let entries = kv::prefix(prefix).entries();
            entries
                .map(|(key, value)| (text(key), text(value)))
                .collect()
        })
    }

    /// Calls a procedure with a value as its arguments.
    ///
    /// # Panics
    /// Where the function is a hook, or the arguments cannot be written as MessagePack.
    pub fn call<F: Function>(&mut self, arguments: &(impl Serialize + ?Sized)) -> Outcome {
        let arguments = message_pack::encode(arguments).expect("the arguments can be encoded");
        self.call_bytes::<F>(&arguments)
    }

    /// Calls a procedure with bytes as its input.
    ///
    /// # Panics
    /// Where the function is a hook.
    pub fn call_bytes<F: Function>(&mut self, input: &[u8]) -> Outcome {
        let Kind::Procedure { read_only } = F::KIND else {
            panic!("`{}` is a hook, not a procedure", F::NAME);
        };
        let mut call = self.new_call(Phase::Procedure { read_only });
        call.input = input.to_vec();
        let (mut call, result) = call.run(F::run);
        let outcome = Outcome::new(result, std::mem::take(&mut call.output));
        self.finish(call, matches!(outcome, Outcome::Done(_)));
        outcome
    }

    /// Runs a hook around a command, if its commands and its prefix fit.
    ///
    /// A request hook runs before the command, which is not run; its writes stay. A response hook runs after
    /// the command, which is run here unless the exchange says how it ended; a block undoes both.
    ///
    /// # Panics
    /// Where the function is a procedure.
    pub fn hook<F: Function>(&mut self, exchange: &Exchange) -> Hooked {
        let Kind::Hook {
            response,
            commands,
            prefix,
        } = F::KIND
        else {
            panic!("`{}` is a procedure, not a hook", F::NAME);
        };
        let mut call = self.new_call(Phase::Request);
        exchange.begin(&mut call);
        if !commands.contains(&exchange.command) || !exchange.key.starts_with(prefix) {
            return Hooked::passed_by(&call);
        }
        if response {
            call.phase = Phase::Response;
            exchange.complete(&mut call);
        }
        let (call, result) = call.run(F::run);
        let hooked = Hooked::new(exchange.command, result, &call);
        let undone = match hooked.answer {
            Answer::Trap(_) => true,
            Answer::Block(_) => response,
            _ => false,
        };
        self.finish(call, !undone);
        hooked
    }

    fn new_call(&self, phase: Phase) -> Call {
        let mut call = Call::new(phase, self.store.begin(self.now_ms));
        if phase != Phase::Transaction {
            call.grant.clone_from(&self.grant);
        }
        call.config.clone_from(&self.config);
        call.context = self.context.clone();
        call.random = self.random_seed;
        call
    }

    fn finish(&mut self, call: Call, commit: bool) {
        self.random_seed = call.random.wrapping_add(1);
        self.logs.extend(call.logs);
        if commit {
            self.store.commit(call.transaction);
        }
    }
}
