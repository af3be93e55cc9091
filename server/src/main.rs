//! `luge-server`: serves, demonstrates, tells its configuration, checks and restores data folders.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand};
use luge_server::config::{Config, ConfigError, LogFormat};
use luge_server::net::Stopper;
use luge_server::reload::Reloader;
use luge_server::server::{Server, stopper};
use luge_server::udf::{Compilers, run_compiler};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use users::TokenCommand;

mod demo;
mod folders;
mod show;
mod users;

/// A key-value server that its clients program in WebAssembly.
#[derive(Parser)]
#[command(name = "luge-server", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop. This is what happens without a command, too.
    Serve(SettingFlags),
    /// Print the configuration in force: every setting with its unit and its reason.
    Config(SettingFlags),
    /// Show what Luge does, with a server of its own in a temporary folder.
    Demo,
    /// Make, list and remove the tokens by which users prove who they are.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Check the base and the log of a data folder, which are the truth, and change nothing. No server may have it open.
    Check {
        /// Where the data lies.
        folder: PathBuf,
    },
    /// Compile one module, as the server tells it to.
    #[command(hide = true)]
    Compile,
    /// Make a data folder out of a backup, which is checked as a whole before.
    Restore {
        /// What `luge backup` wrote.
        backup: PathBuf,
        /// Where the data should lie: an empty folder, or one that is not there yet.
        folder: PathBuf,
    },
}

#[derive(Args)]
struct SettingFlags {
    /// Where clients connect [default: 127.0.0.1:5843].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where metrics are told over HTTP: /metrics, /healthz and /readyz [default: nowhere].
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    /// Where the data lies [default: ./luge-data].
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
    /// Who may do what [default: the data folder's name and .tokens, beside it, where that is].
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<String>,
    /// The certificate for TLS, in PEM form [default: none, and no TLS].
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// The certificate's private key, in PEM form.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// When a write is acknowledged: always (once it is on disk), everysec or interval:MS (once the
    /// kernel has it, which syncs on the clock) [default: always].
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
    /// Serve an address that others can reach, without accounts.
    #[arg(long)]
    no_auth: bool,
    /// What is logged, such as `info` or `luge_server=debug`.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// A TOML file with settings [env: LUGE_CONFIG].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any other setting; `luge-server config` lists them all.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
}

impl SettingFlags {
    fn load(&self) -> Result<Config, ConfigError> {
        let mut flags = self.set.clone();
        let named = [
            ("listen", &self.listen),
            ("metrics", &self.metrics),
            ("data", &self.data),
            ("tokens_file", &self.tokens_file),
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("durability", &self.durability),
            ("log", &self.log),
        ];
        for (key, value) in named {
            if let Some(value) = value {
                flags.push((key.to_owned(), quoted(value)));
            }
        }
        if self.no_auth {
            flags.push(("no_auth".to_owned(), "true".to_owned()));
        }
        let variable = || std::env::var_os("LUGE_CONFIG").filter(|file| !file.is_empty());
        let file = self
            .config
            .clone()
            .or_else(|| variable().map(PathBuf::from));
        Config::load(file.as_deref(), &flags)
    }
}

/// Settings stand behind the command; where they stand before it, that is told.
fn with_order(mut error: clap::Error) -> clap::Error {
    if error.get(ContextKind::InvalidSubcommand).is_some() {
        let tip = "settings stand behind the command, as in `luge-server token add NAME --role ROLE --data FOLDER`";
        let tip = ContextValue::StyledStrs(vec![tip.to_owned().into()]);
        error.insert(ContextKind::Suggested, tip);
    }
    error
}

/// A value that is text whatever it looks like.
fn quoted(value: &str) -> String {
    format!("{value:?}")
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err("it should be KEY=VALUE".to_owned()),
    }
}

fn main() -> ExitCode {
    #[cfg(feature = "seeded-bugs")]
    seed_bug();
    let arguments = Arguments::try_parse().unwrap_or_else(|error| with_order(error).exit());
    let done = match &arguments.command {
        None => serve(&arguments.settings),
        Some(Command::Serve(settings)) => serve(settings),
        Some(Command::Config(settings)) => settings
            .load()
            .map_err(|error| error.to_string())
            .and_then(|config| show::config(&config)),
        Some(Command::Demo) => demo::run(),
        Some(Command::Token(command)) => users::run(command),
        Some(Command::Compile) => return run_compiler(),
        Some(Command::Check { folder }) => folders::check(folder),
        Some(Command::Restore { backup, folder }) => folders::restore(backup, folder),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            show::error(&message);
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: &SettingFlags) -> Result<(), String> {
    let config = settings.load().map_err(|error| error.to_string())?;
    start_log(&config)?;
    let compilers = Compilers::own_program().map_err(|error| {
        format!("the program's own file can't be found, and modules are compiled by it: {error}")
    })?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.worker_threads > 0 {
        builder.worker_threads(config.worker_threads);
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| format!("can't start the runtime: {error}"))?;
    runtime.block_on(async {
        // Before anybody is told that the server is ready, or a signal could still end it out of order.
        let (stopper, stopping) = stopper();
        let signals = |error| format!("no signals: {error}");
        stop_at_signals(stopper).map_err(signals)?;
        let hangups = signal(SignalKind::hangup()).map_err(signals)?;
        let server = Server::start(&config, compilers)
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(reload_at_signals(hangups, server.reloader()));
        server
            .run(stopping)
            .await
            .map_err(|error| error.to_string())
    })
}

/// Plants the bug that the environment names.
#[cfg(feature = "seeded-bugs")]
fn seed_bug() {
    use luge_server::bugs::{Bug, seed};
    let name = std::env::var("SEEDED_BUG").unwrap_or_default();
    seed(Bug::named(&name));
    eprintln!("this server is built with seeded bugs, and has `{name}`");
}

/// What a shell takes for the exit code of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Stops the server at SIGTERM and Ctrl-C. A Ctrl-C behind that is of somebody who does not want to wait for what runs:
/// it ends the server as a kill would, and the next start finds all that was acknowledged in the log.
fn stop_at_signals(stopper: Stopper) -> std::io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        tracing::info!("stopping: what runs may finish; Ctrl-C ends it at once");
        stopper.stop();
        if interrupted.recv().await.is_some() {
            tracing::warn!("interrupted while stopping: what ran is cut off");
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(())
}

/// Takes changed files over at SIGHUP.
async fn reload_at_signals(mut hangups: Signal, reloader: Reloader) {
    while hangups.recv().await.is_some() {
        let reloader = reloader.clone();
        // A fault there should not end what waits for the next signal.
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
    }
}

/// A filter in which a word by itself is a level. To the parser one that is no level is the name of
/// a part of the program, and a misspelt level would silence all of it.
fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    let word = text.trim();
    let is_word = !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphabetic());
    if is_word && LevelFilter::from_str(word).is_err() {
        return Err(format!(
            "there is no level {word}; the levels are off, error, warn, info, debug and trace, and that of \
             a part is set as in luge_server=debug"
        ));
    }
    Ok(filter)
}

fn start_log(config: &Config) -> Result<(), String> {
    let filter = log_filter(&config.log)
        .map_err(|error| format!("the log filter `{}` is wrong: {error}", config.log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
