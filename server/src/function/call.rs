//! One call: what the host functions do, apart from reaching into the guest's memory.
//!
//! Expected outcomes are values. A guest's mistake, such as a function in the wrong stage, is a
//! [`Stop::Trap`], and ends the call; so does a limit, with a code of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{ErrorCode, HookCommand};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::grant::Granted;
use super::guest_log::{GuestLog, LogRate};
use super::log::{LogBudget, Speaker};
use super::running::Running;
use super::scan::OpenScan;
use super::view::HookView;
use crate::store::{Millis, Snapshot};
use crate::transaction::{Live, TimeToLive, Transaction, TransactionError};

/// What a call's random numbers begin with.
pub type Seed = [u8; 32];

/// What a function is run for, which decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The start section and `_initialize`: logging, output, configuration and WASI.
    Initialise,
    /// A describer: the same.
    Describe,
    /// A procedure.
    Procedure,
    /// A hook before the command.
    RequestHook,
    /// A hook after it.
    ResponseHook,
}

/// Who asks, as guests may know it.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The connection's number.
    pub connection: u64,
    /// The peer's address, without its port.
    pub peer: String,
    /// What the client calls itself.
    pub client: Option<String>,
    /// The user that the credentials name.
    pub user: Option<String>,
}

/// What all calls of one request share.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    /// Who asks.
    pub identity: Arc<Identity>,
    /// The request's number, by the server's own count.
    pub request: u64,
    /// The command as it was sent.
    pub command: &'static str,
}

/// What all calls into one version of a module share.
#[derive(Debug, Default)]
pub struct ModuleContext {
    /// The module's name.
    pub name: String,
    /// The version's number.
    pub version: u64,
    /// The configuration that it was pushed with.
    pub config: BTreeMap<String, String>,
    /// When it was pushed: the clock of its initialisation.
    pub pushed_ms: Millis,
    /// The keys that its functions may use; `None` is every key.
    pub granted: Option<Granted>,
    /// What its initialisation's random numbers begin with: its hash.
    pub seed: Seed,
    /// How much it logs.
    pub log_rate: LogRate,
    /// Where what it logs is kept, if it is.
    pub log: Option<Arc<GuestLog>>,
}

/// A function of a version of a module.
#[derive(Debug, Default)]
pub struct Function {
    /// Its module.
    pub module: Arc<ModuleContext>,
    /// Its name.
    pub name: Arc<str>,
    /// Its place among the functions that the module exports; `None` where it exports none of this name.
    pub export: Option<usize>,
    /// Its place among those that are counted.
    pub counted: Option<usize>,
}

/// Why a call must end at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest's mistake.
    Trap(String),
    /// A limit, or the store.
    Failed(ErrorCode, String),
}

/// What is done to a key: whether its state is told, and whether it is changed.
#[derive(Clone, Copy)]
struct Access {
    reads: bool,
    writes: bool,
}

/// One call.
pub struct Call<S: Snapshot> {
    /// What it runs for.
    pub stage: Stage,
    /// The transaction; none for describers and initialisation.
    pub transaction: Option<Box<Transaction<S>>>,
    /// What it is given: a procedure's arguments.
    pub input: Bytes,
    /// What it has written.
    pub output: Vec<u8>,
    /// The most that it may write, in bytes.
    pub max_output_bytes: usize,
    /// The longest key, in bytes.
    pub max_key_bytes: usize,
    /// The longest value, in bytes.
    pub max_value_bytes: usize,
    /// The command, for hooks.
    pub view: Option<Box<HookView>>,
    /// The request, as others see it and end it.
    pub running: Arc<Running>,
    /// The function.
    pub function: Arc<Function>,
    /// How far WASI's monotonic clock was moved on by waiting, in nanoseconds.
    pub waited_ns: u64,
    random: Random,
    pub(super) scans: Vec<Option<OpenScan>>,
    log: LogBudget,
}

/// A call's random numbers. Most calls ask for none, and a generator is as large as the rest of a call.
pub struct Random {
    seed: Seed,
    generator: Option<Box<ChaCha8Rng>>,
}

impl Random {
    fn new(seed: Seed) -> Self {
        let generator = None;
        Self { seed, generator }
    }

    fn generator(&mut self) -> &mut ChaCha8Rng {
        let begin = || Box::new(ChaCha8Rng::from_seed(self.seed));
        self.generator.get_or_insert_with(begin)
    }
}

impl<S: Snapshot> Call<S> {
    /// A call that has done nothing.
    pub fn new(
        stage: Stage,
        transaction: Option<Box<Transaction<S>>>,
        running: Arc<Running>,
        function: Arc<Function>,
        seed: Seed,
    ) -> Self {
        Self {
            stage,
            transaction,
            input: Bytes::new(),
            output: Vec::new(),
            max_output_bytes: 0,
            max_key_bytes: 0,
            max_value_bytes: 0,
            view: None,
            running,
            function,
            waited_ns: 0,
            random: Random::new(seed),
            scans: Vec::new(),
            log: LogBudget::default(),
        }
    }

    /// The module.
    pub fn module(&self) -> &ModuleContext {
        &self.function.module
    }

    /// The clock: the transaction's time, or that of the push where there is no transaction.
    pub fn now_ms(&self) -> Millis {
        self.transaction
            .as_deref()
            .map_or(self.module().pushed_ms, Transaction::now_ms)
    }

    /// Fills `buffer` with random bytes.
    pub fn random_fill(&mut self, buffer: &mut [u8]) {
        self.random.generator().fill_bytes(buffer);
    }

    /// Begins the random numbers again from another seed; answers the generator in use so far.
    pub fn reseed(&mut self, seed: Seed) -> Random {
        std::mem::replace(&mut self.random, Random::new(seed))
    }

    /// Puts a generator back that [`Call::reseed`] answered.
    pub fn restore_random(&mut self, random: Random) {
        self.random = random;
    }

    /// What the call is given.
    ///
    /// # Errors
    /// A trap in initialisation, which is the same for every call, and in describers.
    pub fn input(&self) -> Result<Bytes, Stop> {
        self.check_running()?;
        Ok(self.input.clone())
    }

    /// Appends to the output.
    ///
    /// # Errors
    /// The output's limit.
    pub fn output_write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let length = self.output.len() + bytes.len();
        if length > self.max_output_bytes {
            let limit = self.max_output_bytes;
            let message = format!(
                "output of {length} bytes exceeds the limit of {limit} (`output_bytes` of its push or call)"
            );
            return Err(Stop::Failed(ErrorCode::OutputTooLarge, message));
        }
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    /// The live value of a key.
    pub async fn kv_get(&mut self, key: &[u8]) -> Result<Option<Live>, Stop> {
        self.check_key(key, Access::READ)?;
        Ok(self.transaction()?.get(key).await?)
    }

    /// Stores a value. `ttl_ms` is 0 for no expiry, -1 to keep the one the key has.
    pub async fn kv_set(&mut self, key: &[u8], value: &[u8], ttl_ms: i64) -> Result<(), Stop> {
        self.check_key(key, Access::WRITE)?;
        self.check_value(value)?;
        let ttl = time_to_live(ttl_ms)?;
        let value = crate::store::value(value);
        Ok(self.transaction()?.set(key, value, ttl).await?)
    }

    /// Deletes a key; answers whether it was there, so it is a read, too.
    pub async fn kv_delete(&mut self, key: &[u8]) -> Result<bool, Stop> {
        self.check_key(key, Access::BOTH)?;
        Ok(self.transaction()?.delete(key).await?)
    }

    /// Adds to a number; `None` where there is none, or where the sum does not fit.
    pub async fn kv_incr(&mut self, key: &[u8], delta: i64) -> Result<Option<i64>, Stop> {
        self.check_key(key, Access::BOTH)?;
        match self.transaction()?.incr(key, delta).await {
            Ok(sum) => Ok(Some(sum)),
            Err(TransactionError::NotANumber(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Logs a line.
    pub fn log(&mut self, level: u32, text: &[u8]) -> Result<(), Stop> {
        if level > 4 {
            return Err(Stop::trap(format!("unknown log level {level}")));
        }
        let speaker = speaker(&self.running, &self.function);
        self.log.log(&speaker, level, text);
        Ok(())
    }

    /// Takes the last line that the call logged as an error.
    pub fn take_last_error(&mut self) -> Option<String> {
        self.log.take_last_error()
    }

    /// Logs what is written to a standard stream.
    pub fn log_stream(&mut self, level: u32, bytes: &[u8]) {
        let speaker = speaker(&self.running, &self.function);
        self.log.stream(&speaker, level, bytes);
    }

    /// Ends the log of this call.
    pub fn finish_log(&mut self) {
        let speaker = speaker(&self.running, &self.function);
        self.log.finish(&speaker);
    }

    /// A field of the context, as text.
    pub fn context(&self, field: u32) -> Result<Option<String>, Stop> {
        self.check_running()?;
        let request = self.running.request();
        let identity = &request.identity;
        Ok(match field {
            1 => Some(identity.connection.to_string()),
            2 => Some(identity.peer.clone()),
            3 => identity.client.clone(),
            4 => identity.user.clone(),
            5 => Some(request.request.to_string()),
            6 => Some(self.running.attempt().to_string()),
            7 => Some(request.command.to_owned()),
            8 => Some(self.module().version.to_string()),
            _ => None,
        })
    }

    /// The hook's view of its command.
    pub fn view(&self) -> Result<&HookView, Stop> {
        self.check_running()?;
        self.view
            .as_deref()
            .ok_or_else(|| Stop::trap("only hooks have a request"))
    }

    /// The value that the key had before the request. A `call` has none: its key is a name.
    ///
    /// No grant is needed: the key is the request's, and the hook's own filter says which keys those are.
    pub async fn request_previous(&mut self) -> Result<Option<Live>, Stop> {
        let view = self.view()?;
        if view.command == HookCommand::Call {
            return Ok(None);
        }
        let key = view.key.clone();
        Ok(self.transaction()?.get_before(&key).await?)
    }

    /// The view, to change the request.
    pub fn request_mut(&mut self) -> Result<&mut HookView, Stop> {
        match self.stage {
            Stage::RequestHook => self.view.as_deref_mut(),
            _ => None,
        }
        .ok_or_else(|| Stop::trap("only a request hook can change the request"))
    }

    /// The view, with the response in it.
    pub fn response(&self) -> Result<&HookView, Stop> {
        match self.stage {
            Stage::ResponseHook => self.view.as_deref(),
            _ => None,
        }
        .ok_or_else(|| Stop::trap("only a response hook has a response"))
    }

    /// The view, to change the response.
    pub fn response_mut(&mut self) -> Result<&mut HookView, Stop> {
        match self.stage {
            Stage::ResponseHook => self.view.as_deref_mut(),
            _ => None,
        }
        .ok_or_else(|| Stop::trap("only a response hook can change the response"))
    }

    /// Refuses a value over the limit.
    pub fn check_value(&self, value: &[u8]) -> Result<(), Stop> {
        self.check_running()?;
        let (length, limit) = (value.len(), self.max_value_bytes);
        if length > limit {
            let message =
                format!("value of {length} bytes exceeds the limit of {limit} (`max_value_bytes`)");
            return Err(Stop::Failed(ErrorCode::TooLarge, message));
        }
        Ok(())
    }

    /// The transaction, where the stage has one.
    pub fn transaction(&mut self) -> Result<&mut Transaction<S>, Stop> {
        self.check_running()?;
        self.transaction
            .as_deref_mut()
            .ok_or_else(|| Stop::trap("there is no transaction"))
    }

    pub(super) fn check_running(&self) -> Result<(), Stop> {
        match self.stage {
            Stage::Initialise => Err(Stop::trap(
                "not while a module is initialised; call it from a function",
            )),
            Stage::Describe => Err(Stop::trap("not in a describer; call it from a function")),
            _ => Ok(()),
        }
    }

    /// Refuses to scan keys that the module may not read.
    pub(super) fn check_scan(&self, start: &[u8], end: &[u8]) -> Result<(), Stop> {
        match &self.module().granted {
            None => Ok(()),
            Some(granted) => granted.check_scan(start, end),
        }
    }

    fn check_key(&self, key: &[u8], access: Access) -> Result<(), Stop> {
        self.check_running()?;
        let (length, limit) = (key.len(), self.max_key_bytes);
        if length == 0 {
            return Err(Stop::trap("a key has at least 1 byte"));
        }
        if length > limit {
            let message =
                format!("key of {length} bytes exceeds the limit of {limit} (`max_key_bytes`)");
            return Err(Stop::Failed(ErrorCode::TooLarge, message));
        }
        match &self.module().granted {
            None => Ok(()),
            Some(granted) => access.check(granted, key),
        }
    }
}

impl Access {
    const READ: Self = Self {
        reads: true,
        writes: false,
    };
    const WRITE: Self = Self {
        reads: false,
        writes: true,
    };
    const BOTH: Self = Self {
        reads: true,
        writes: true,
    };

    fn check(self, granted: &Granted, key: &[u8]) -> Result<(), Stop> {
        if self.reads {
            granted.check_read(key)?;
        }
        if self.writes {
            granted.check_write(key)?;
        }
        Ok(())
    }
}

fn speaker<'a>(running: &Running, function: &'a Function) -> Speaker<'a> {
    let module = &function.module;
    Speaker {
        module: &module.name,
        function: &function.name,
        request: running.request().request,
        rate: &module.log_rate,
        log: module.log.as_deref(),
    }
}

impl Stop {
    /// A trap with its reason.
    pub fn trap(reason: impl Into<String>) -> Self {
        Self::Trap(reason.into())
    }
}

impl From<TransactionError> for Stop {
    fn from(error: TransactionError) -> Self {
        use crate::store::StoreError;
        let code = match &error {
            TransactionError::TooLarge { .. } | TransactionError::TooManyReads { .. } => {
                ErrorCode::TooLarge
            }
            TransactionError::ReadOnly => ErrorCode::Forbidden,
            TransactionError::NotANumber(_) => ErrorCode::BadRequest,
            TransactionError::Store(StoreError::TooOld { .. } | StoreError::Forgotten { .. }) => {
                ErrorCode::TooOld
            }
            TransactionError::Store(StoreError::Overloaded(_)) => ErrorCode::Overloaded,
            TransactionError::Store(StoreError::Unavailable(_)) => ErrorCode::Unavailable,
            TransactionError::Store(StoreError::UnknownOutcome(_)) => ErrorCode::UnknownOutcome,
            TransactionError::Store(StoreError::Storage(_)) => ErrorCode::Storage,
        };
        Self::Failed(code, error.to_string())
    }
}

/// A time to live as guests give it.
pub fn time_to_live(ttl_ms: i64) -> Result<TimeToLive, Stop> {
    match ttl_ms {
        0 => Ok(TimeToLive::Forever),
        -1 => Ok(TimeToLive::Kept),
        _ => u64::try_from(ttl_ms)
            .map(TimeToLive::For)
            .map_err(|_| Stop::trap(format!("{ttl_ms} is no time to live"))),
    }
}
