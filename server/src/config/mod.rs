//! The configuration: every setting and every bound, with its unit, its default and its reason.
//!
//! Flags come before the environment, the environment before the file, the file before the defaults.
//! A key is the same in all of them: `--set max_connections=100`, `LUGE_MAX_CONNECTIONS=100`,
//! `max_connections = 100`.

mod check;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::Dict;
use figment::{Figment, Provider};
use serde::{Deserialize, Serialize};

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DurabilitySetting {
    /// Once it is on disk.
    Always,
    /// Once the kernel has it; it is synced so often.
    Interval(Duration),
}

/// The shortest and the longest interval between syncs, in milliseconds.
const SYNC_INTERVAL_MS: RangeInclusive<u64> = 1..=60_000;

/// A page holds a header and a block; a restart reads whole segments into memory.
const LOG_SEGMENT_BYTES: RangeInclusive<u64> = 4 << 10..=1 << 30;

impl TryFrom<String> for DurabilitySetting {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let interval = match text.as_str() {
            "always" => return Ok(Self::Always),
            "everysec" => Some(1_000),
            other => other
                .strip_prefix("interval:")
                .and_then(|ms| ms.parse().ok()),
        };
        match interval {
            Some(ms) if SYNC_INTERVAL_MS.contains(&ms) => {
                Ok(Self::Interval(Duration::from_millis(ms)))
            }
            _ => {
                let (least, most) = (SYNC_INTERVAL_MS.start(), SYNC_INTERVAL_MS.end());
                Err(format!(
                    "the durability {text:?} is none of \"always\", \"everysec\" and \"interval:<ms>\" with {least} to {most} ms"
                ))
            }
        }
    }
}

impl From<DurabilitySetting> for String {
    fn from(setting: DurabilitySetting) -> Self {
        setting.to_string()
    }
}

impl fmt::Display for DurabilitySetting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => formatter.write_str("always"),
            Self::Interval(interval) if interval.as_millis() == 1_000 => {
                formatter.write_str("everysec")
            }
            Self::Interval(interval) => write!(formatter, "interval:{}", interval.as_millis()),
        }
    }
}

/// Variables with our prefix that are not settings of the server: those of the CLI, and the name of
/// the file, which is read before any setting.
const OTHER_VARIABLES: &[&str] = &["addr", "config", "tls", "tls_ca", "token", "token_file"];

/// A setting, as `luge-server config` shows it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// The unit, empty where there is none.
    pub unit: &'static str,
    /// Why it is there, and why the default is what it is.
    pub reason: &'static str,
}

macro_rules! settings {
    ($($name:ident: $type:ty = $default:expr, $unit:literal, $reason:literal;)*) => {
        /// Every setting of a server.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            $(#[doc = $reason] pub $name: $type,)*
        }

        impl Config {
            /// Every setting's name, unit and reason, in order.
            pub const FIELDS: &'static [Field] =
                &[$(Field { name: stringify!($name), unit: $unit, reason: $reason },)*];
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }
    };
}

settings! {
    listen: String = format!("127.0.0.1:{}", luge_protocol::DEFAULT_PORT), "host:port",
        "where clients connect; a loopback address, unless there are tokens or no_auth is set";
    metrics: String = String::new(), "host:port",
        "where metrics are told over HTTP, to whoever reaches it; a loopback address, unless there are tokens or no_auth is set; if empty, nowhere";
    data: PathBuf = "./luge-data".into(), "folder",
        "where the data lies; one server at a time has it open";
    tokens_file: PathBuf = PathBuf::new(), "file",
        "who may do what, as `luge-server token` writes it; if empty, the data folder's name and .tokens, beside it, where that is";
    tls_cert: PathBuf = PathBuf::new(), "file",
        "the certificate, with the chain behind it, in PEM form; if empty, there is no TLS";
    tls_key: PathBuf = PathBuf::new(), "file",
        "its private key, in PEM form, which others must not be able to read";
    no_auth: bool = false, "",
        "whether an address that others can reach is served without tokens: whoever reaches it may read, write and deploy";
    log: String = "info".to_owned(), "filter",
        "what is logged, as tracing's filters are written, such as info or luge_server=debug,luge::guest=trace";
    log_format: LogFormat = LogFormat::Text, "text|json",
        "how log lines look; json has one object a line";

    max_connections: usize = 10_000, "connections",
        "each costs about 20 KiB and a file descriptor; one more is told `overloaded` and closed";
    max_frame_bytes: usize = 16 << 20, "bytes",
        "a request's or reply's body; large enough for the largest transaction, small enough to buffer";
    max_unread_replies: usize = 1_024, "replies",
        "replies of one connection that wait to be written; when they are reached its next request waits";
    max_unread_bytes: usize = 32 << 20, "bytes",
        "the same in bytes: two of the largest replies";
    max_buffered_bytes: usize = 512 << 20, "bytes",
        "large frames that are arriving and replies that wait to be written, of all connections together; beyond it they wait for each other";
    idle_timeout_ms: u64 = 3_600_000, "ms",
        "a connection without a request for so long is closed, so that peers that vanished do not add up";
    greeting_timeout_ms: u64 = 10_000, "ms",
        "a connection must have done its handshake, if there is TLS, and said a `hello` that is accepted in this time, so that strangers do not keep places from users";
    frame_timeout_ms: u64 = 30_000, "ms",
        "a frame must arrive in this time from its first byte on, so that slow senders do not hold buffers";
    write_timeout_ms: u64 = 30_000, "ms",
        "a client that takes less than 64 KiB of its replies in so long is closed";
    max_streams: usize = 16, "streams",
        "watches and backups of one connection at once; one more is told `overloaded`";
    max_all_streams: usize = 4_096, "streams",
        "the same of all connections together; each may hold some 256 KiB of changes that were read and not yet told";
    watch_timeout_ms: u64 = 10_000, "ms",
        "a watcher that does not take a change in so long is cut off, and told where it can go on";
    watch_progress_ms: u64 = 60_000, "ms",
        "a watcher that was told nothing for so long is told how far it knows everything, which also shows that it is there";
    stop_timeout_ms: u64 = 10_000, "ms",
        "what runs when the server is told to stop may take this long to finish";

    max_key_bytes: usize = 1_024, "bytes",
        "keys are kept in memory and compared; long ones belong into values";
    max_value_bytes: usize = 1 << 20, "bytes",
        "a value is read and written whole";
    max_module_bytes: usize = 4 << 20, "bytes",
        "a Go module has about 2 MiB; compiling takes time in proportion";
    compile_time_ms: u64 = 30_000, "ms",
        "how long the process that compiles a module may take before it is killed; one of the largest size takes a few seconds";
    compile_memory_bytes: u64 = 1 << 30, "bytes",
        "what that process may take of memory; one of the largest size takes a few hundred MiB";
    max_modules: usize = 1_000, "modules",
        "the active version of each is kept compiled in memory";
    max_module_versions: usize = 16, "versions",
        "versions of one module that are kept, to go back to; a push beyond it drops the oldest that is neither active nor what a rollback returns to";
    max_module_stored_bytes: u64 = 64 << 20, "bytes",
        "binaries and descriptions of all versions of one module together, so that a name does not fill the disk: 16 of the largest; a push beyond it drops versions in the same order";
    max_request_keys: usize = 10_000, "keys",
        "keys of one mget, del or exists, and parts of one batch";
    max_page_entries: usize = 10_000, "entries",
        "entries of one page of a scan, and keys of one deletion of a range";
    max_page_bytes: usize = 8 << 20, "bytes",
        "keys and values of one page, which must fit into a frame";
    max_reads: usize = 100_000, "keys and ranges",
        "what one transaction may read; a scan is one range, however many entries it has";
    max_shared_attempts: u32 = 4, "attempts",
        "how often a request is tried beside others before it is tried alone";

    durability: DurabilitySetting = DurabilitySetting::Always, "always, everysec, interval:<ms>",
        "when a write is acknowledged: once it is on disk, or once the kernel has it, which syncs on the clock";
    sled_cache_bytes: u64 = 64 << 20, "bytes",
        "what sled may cache of the index; its real use is a multiple of this";
    cache_bytes: usize = 256 << 20, "bytes",
        "entries kept in memory that were read or written lately, a quarter of it for scans; a miss asks sled";
    max_history_bytes: usize = 256 << 20, "bytes",
        "replaced values kept for running transactions; beyond it the oldest of them are `too_old`";
    max_snapshot_age_ms: u64 = 5_000, "ms",
        "how long a transaction may read; beyond it, it is `too_old`, so that what it sees need not be kept";
    max_unfolded_bytes: usize = 256 << 20, "bytes",
        "writes in memory that sled has not yet; beyond it writers wait, at a quarter of it sled gets them";
    fold_log_bytes: u64 = 96 << 20, "bytes",
        "log after which sled gets what it has not yet: what a restart reads again";
    log_segment_bytes: u64 = 16 << 20, "bytes",
        "the length of the log's files, which are reserved ahead and removed whole";
    base_log_bytes: u64 = 64 << 20, "bytes",
        "log in sled after which everything is copied into a new base, so that the log can go; the base's own length, if that is more";
    max_write_wait_ms: u64 = 10_000, "ms",
        "how long a writer waits for the disk to keep up, before it is told `overloaded`";
    max_kept_log_bytes: u64 = 1 << 30, "bytes",
        "log kept for a backup or a watcher that still reads it";
    min_free_disk_bytes: u64 = 256 << 20, "bytes",
        "free room of the disk below which writes are refused, so that what was taken can be finished";

    call_fuel: u64 = 10_000_000, "fuel",
        "a call's fuel, where its push asks for nothing: about 5 ms of arithmetic";
    call_cpu_ms: u64 = 50, "ms",
        "a call's cpu time, host calls included; waiting for a processor does not count";
    call_deadline_ms: u64 = 1_000, "ms",
        "a call's wall clock, from the request's arrival on, over queues and attempts";
    call_memory_bytes: usize = 16 << 20, "bytes",
        "a call's linear memory";
    call_output_bytes: usize = 2 << 20, "bytes",
        "a call's output";
    call_write_keys: usize = 10_000, "keys",
        "keys that a transaction may write";
    call_write_bytes: usize = 16 << 20, "bytes",
        "keys and values that a transaction may write";
    call_table_elements: usize = 20_000, "elements",
        "a module's table; Go needs several thousand";
    max_call_fuel: u64 = 10_000_000_000, "fuel",
        "the most that a push may ask for";
    max_call_cpu_ms: u64 = 5_000, "ms",
        "the most that a push may ask for";
    max_call_deadline_ms: u64 = 60_000, "ms",
        "the most that a push may ask for";
    max_call_memory_bytes: usize = 64 << 20, "bytes",
        "the most that a push may ask for";
    max_call_output_bytes: usize = 8 << 20, "bytes",
        "the most that a push may ask for; an output must fit into a frame";
    max_call_write_keys: usize = 100_000, "keys",
        "the most that a push may ask for";
    max_call_write_bytes: usize = 64 << 20, "bytes",
        "the most that a push may ask for";
    max_call_table_elements: usize = 20_000, "elements",
        "the most that a push may ask for; every slot of the pool holds as many";
    phase_cpu_ms: u64 = 200, "ms",
        "the cpu time of all hooks before a command together, and of all after it";
    max_guest_log_lines: usize = 10_000, "lines",
        "what functions logged lately, kept in memory for `luge logs`";
    max_guest_log_bytes: usize = 4 << 20, "bytes",
        "the same in bytes; a line counts for 128 more than its text";
    max_guest_log_rate: u64 = 1_000, "lines a second",
        "what one version of a module may log, so that it neither fills the disk nor pushes the lines of others out; one line says that the rest is dropped";
    max_counted_functions: usize = 4_096, "functions",
        "functions whose calls are counted and timed, of all versions that are kept; each takes up to 10 KiB once it is called, and calls of more are counted together";
    stack_bytes: usize = 512 << 10, "bytes",
        "a guest's stack";
    module_running_calls: usize = 64, "requests",
        "requests that run functions of one module at once, where its push asks for nothing: half of all, so that one module leaves room for others";
    max_module_running_calls: usize = 128, "requests",
        "the most that a push may ask for";
    max_module_waiting_calls: usize = 1_024, "requests",
        "requests that wait for one module; more are told `overloaded`";
    worker_threads: usize = 0, "threads",
        "threads that serve requests; 0: as many as the machine has processors, or as the container may use. Fewer leave some to clients on the same machine";
    max_running_calls: usize = 128, "requests",
        "requests that run functions at once; more wait, and their deadlines run";
    max_instances: u32 = 1_000, "instances",
        "guests alive at once: a request has one for each module that it meets; the pool reserves address space and 2 mappings for each";
    max_module_idle_instances: usize = 16, "instances",
        "of one version of a module, those that wait for a call, as they are or set back: as many as run at once on a machine of so many processors; each holds its memory, and the stack that its calls have used";
    max_idle_instances_percent: u32 = 25, "percent of max_instances",
        "what kept instances of all modules may hold, waiting or at work, so that calls of others find room; at most 90";
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What is wrong with a configuration, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Config {
    /// Reads the configuration from its sources.
    ///
    /// # Errors
    /// A file that can't be read, an unknown key, or a value that a key can't have.
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                ConfigError(format!(
                    "can't read the configuration file {}: {error}",
                    file.display()
                ))
            })?;
            let place = format!("the file {}", file.display());
            figment = merge(figment, || Toml::string(&text), &place)?;
        }
        let environment = Env::prefixed("LUGE_").ignore(OTHER_VARIABLES);
        figment = merge(figment, || environment.clone(), "the environment (LUGE_…)")?;
        for (key, value) in flags {
            let value: figment::value::Value = value
                .parse()
                .unwrap_or_else(|_| figment::value::Value::from(value.as_str()));
            let flag = || Serialized::default(key, value.clone());
            figment = merge(figment, flag, "the flags")?;
        }
        let config: Self = figment
            .extract()
            .map_err(|error| unreadable(&error, "the configuration"))?;
        config.check()?;
        Ok(config)
    }
}

/// Adds a source, after a look at each of its keys and values, so that what is wrong is told with the
/// place where it stands.
fn merge<P: Provider>(
    figment: Figment,
    source: impl Fn() -> P,
    place: &str,
) -> Result<Figment, ConfigError> {
    let keys: Dict = Figment::from(source())
        .extract()
        .map_err(|error| unreadable(&error, place))?;
    for key in keys.keys() {
        check_key(key, place)?;
    }
    let figment = figment.merge(source());
    figment
        .extract::<Config>()
        .map_err(|error| unreadable(&error, place))?;
    Ok(figment)
}

/// How alike names must be for one to be meant by the other, from 0 to 1.
const MIN_LIKENESS: f64 = 0.8;

/// Refuses a key that no setting has, and names the nearest, if one is near.
fn check_key(key: &str, place: &str) -> Result<(), ConfigError> {
    if Config::FIELDS.iter().any(|field| field.name == key) {
        return Ok(());
    }
    // This measure gives weight to a common beginning, as abbreviations have.
    let nearest = Config::FIELDS
        .iter()
        .map(|field| (strsim::jaro_winkler(field.name, key), field.name))
        .filter(|(likeness, _)| *likeness >= MIN_LIKENESS)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    let nearest = nearest.map_or(String::new(), |(_, name)| {
        format!("the nearest is `{name}`, and ")
    });
    Err(ConfigError(format!(
        "unknown configuration key `{key}` in {place}; {nearest}`luge-server config` lists them all"
    )))
}

/// What can't be read as a setting's value, in one sentence.
fn unreadable(error: &figment::Error, place: &str) -> ConfigError {
    let key = error
        .path
        .last()
        .map(|key| key.to_lowercase())
        .unwrap_or_default();
    let Some(field) = Config::FIELDS.iter().find(|field| field.name == key) else {
        return ConfigError(format!("{place} can't be read: {}", one_line(&error.kind)));
    };
    let (found, expected) = match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            (shown(found), in_words(expected, field.unit))
        }
        Kind::UnknownVariant(found, known) => (format!("{found:?}"), known.join(" or ")),
        // A sentence of our own: it names the value and what is allowed.
        other => {
            let told = one_line(other);
            return ConfigError(format!("the setting `{key}` in {place}: {told}"));
        }
    };
    ConfigError(format!(
        "the setting `{key}` in {place} is {found}, and should be {expected}"
    ))
}

fn shown(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("{value:?}"),
        other => other.to_string(),
    }
}

fn in_words(expected: &str, unit: &str) -> String {
    match expected {
        "a boolean" | "bool" => "true or false".to_owned(),
        "usize" | "u64" | "u32" => format!("a whole number of {unit}, such as 1000"),
        "a string" | "string" => "text".to_owned(),
        other => other.to_owned(),
    }
}

fn one_line(what: &impl fmt::Display) -> String {
    what.to_string().replace('\n', " ")
}
