//! `luge`: the command line of the Luge key-value server.
//!
//! ```text
//!   access  how to get in: token, TLS
//!   args    what is asked for          units   durations and sizes
//!   run     commands on keys           module  commands on modules
//!   calls   call, dry runs, ps, kill stats   what was counted of functions
//!   streams watch and backup           json    between JSON and MessagePack
//!   logs    what functions logged       print   what goes to stdout
//!   failure what goes to stderr, and how the process ends
//! ```

mod access;
mod args;
mod calls;
mod failure;
mod json;
mod logs;
mod module;
mod print;
mod run;
mod stats;
mod streams;
mod units;
mod versions;

use std::process::ExitCode;

use clap::Parser;

use args::Arguments;
use failure::Failure;
use print::Printer;

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It did what was asked.
    Done,
    /// The key was absent.
    Absent,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments).await {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Absent) => ExitCode::FAILURE,
        Err(failure) => failure.report(),
    }
}

async fn execute(arguments: Arguments) -> Result<Outcome, Failure> {
    let mut printer = Printer::to_stdout(arguments.json);
    let builder = access::builder(&arguments)?;
    let address = access::server(&arguments)?;
    let client = builder.name("luge").connect(&address).await?;
    let client = match arguments.durable {
        true => client.durable(),
        false => client,
    };
    let outcome = run::run(&client, arguments.command, &mut printer).await?;
    printer.finish()?;
    Ok(outcome)
}
