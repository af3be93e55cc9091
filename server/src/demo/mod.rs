//! The demonstration: a real server, its real client, and a script of commands, each of which must
//! answer what the script says.
//!
//! ```text
//!   script.txt   what is shown      script      how it is written, and how answers are compared
//!   bundle       the modules        command     carries a command out, answer words what it answered
//!   host         the server         transcript  what is printed
//! ```

mod answer;
mod bundle;
mod command;
mod host;
mod script;
mod transcript;

use std::time::Instant;

use luge_client::Client;

use host::Host;
use script::Piece;

const SCRIPT: &str = include_str!("script.txt");

/// What comes after a demonstration in which everything went as it should.
const TO_GO_ON: &str = "\
To go on, start a server of your own, here in this folder:

  cargo run --release

and talk to it from another terminal. Every command above works there:

  alias luge='cargo run --quiet --release --package luge-client --bin luge --'
  luge set greeting hello
  luge module push bank udfs/examples/built/bank.wasm
  luge --help

README.md shows how to write a hook of your own.";

/// Runs the demonstration and prints it as a transcript.
///
/// # Errors
/// Something did not go as it should, and what.
pub(crate) fn run() -> Result<(), String> {
    start_log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("can't start the runtime: {error}"))?;
    runtime.block_on(async {
        let whole = async {
            let demo = play(SCRIPT).await?;
            demo.finish().await
        };
        tokio::select! {
            done = whole => done,
            // What is dropped removes its folder.
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        }
    })
}

async fn play(script: &str) -> Result<Demo, String> {
    let mut demo = Demo::start().await?;
    for piece in script::parse(script) {
        demo.show(piece).await?;
    }
    Ok(demo)
}

/// A demonstration under way.
struct Demo {
    host: Host,
    client: Client,
    started: Instant,
    headings: usize,
    commands: usize,
}

impl Demo {
    async fn start() -> Result<Self, String> {
        let host = Host::start().await?;
        let client = connect(&host).await?;
        transcript::paragraph(&introduction(&host));
        Ok(Self {
            host,
            client,
            started: now(),
            headings: 0,
            commands: 0,
        })
    }

    async fn show(&mut self, piece: Piece<'_>) -> Result<(), String> {
        match piece {
            Piece::Heading(heading) => {
                self.headings += 1;
                transcript::heading(self.headings, heading);
            }
            Piece::Text(lines) => transcript::paragraph(&lines.join("\n")),
            Piece::Command { line, expected } => self.command(line, &expected).await?,
            Piece::Restart => self.restart().await?,
        }
        Ok(())
    }

    /// Carries out a command, shows it, and checks its answer.
    async fn command(&mut self, line: &str, expected: &[&str]) -> Result<(), String> {
        let words = script::words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let began = now();
        let answer = command::run(&self.client, &words)
            .await
            .map_err(|error| format!("`{line}` failed: {error}"))?;
        let time = (words.first() == Some(&"luge")).then(|| began.elapsed());
        let found: Vec<&str> = answer.lines().collect();
        // What is only looked at has no answer to compare with.
        let shown = match time {
            None => Some(found.iter().map(|line| (*line).to_owned()).collect()),
            Some(_) => script::shown(expected, &found),
        };
        let Some(shown) = shown else {
            let expected = expected.join("\n");
            return Err(format!(
                "`{line}` answered\n{answer}\ninstead of\n{expected}"
            ));
        };
        transcript::command(line, time, &shown);
        self.commands += usize::from(time.is_some());
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), String> {
        let began = now();
        self.host.restart().await?;
        self.client = connect(&self.host).await?;
        let time = transcript::show_time(began.elapsed());
        transcript::paragraph(&format!(
            "The server was stopped and started again in {time}."
        ));
        Ok(())
    }

    async fn finish(self) -> Result<(), String> {
        let Self { host, client, .. } = self;
        drop(client);
        host.stop().await?;
        let (commands, seconds) = (self.commands, self.started.elapsed().as_secs_f64());
        transcript::heading(self.headings + 1, "And now?");
        transcript::paragraph(&format!(
            "All {commands} commands answered as they should, in {seconds:.1} s. The server has\n\
             stopped, and its folder is gone."
        ));
        transcript::paragraph(TO_GO_ON);
        Ok(())
    }
}

fn introduction(host: &Host) -> String {
    let (version, address) = (env!("CARGO_PKG_VERSION"), host.address());
    let folder = host.folder().display();
    format!(
        "Luge {version}, a key-value server programmed in WebAssembly.\n\n\
         A server runs at {address} now, with its data in\n{folder}.\n\n\
         Below is what a client does with it: each command as the command line `luge`\n\
         takes it; how long it took as the client saw it, over TCP, and until what was\n\
         written was on disk; and the answer, which is checked. `…` is left out."
    )
}

async fn connect(host: &Host) -> Result<Client, String> {
    let client = Client::builder().name("demo").connect(host.address()).await;
    client.map_err(|error| format!("can't connect to the server: {error}"))
}

/// Errors only: what the demonstration provokes is in its answers.
fn start_log() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
}

#[expect(
    clippy::disallowed_methods,
    reason = "times are shown, and decide nothing"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_that_is_not_as_it_should_be_is_told() {
        let script = "$ luge set k 1\nok (version …)\n\n$ luge get k\n2";
        let error = play(script).await.err();
        let expected = "`luge get k` answered\n1\ninstead of\n2";
        assert_eq!(error.as_deref(), Some(expected));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_command_that_is_no_command_is_told() {
        let error = play("$ luge fly away").await.err();
        let expected = "`luge fly away` failed: the demonstration has no such command";
        assert_eq!(error.as_deref(), Some(expected));
    }
}
