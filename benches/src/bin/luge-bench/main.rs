//! Drives Luge, Redis, Valkey and Tarantool with the same workloads in one run: `benches/README.md` says what is
//! compared and how.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use luge_benches::compare::figures::Figures;
use luge_benches::compare::hosting;
use luge_benches::compare::report::{self, markdown};
use luge_benches::compare::series::{self, Plan};
use luge_benches::compare::system::{self, Level, Programs, System};
use luge_benches::compare::target;
use luge_benches::compare::workload::{self, Sizes, Workload};
use luge_benches::scaling::sweep::Sweep;
use luge_benches::scaling::{self, course, stage};

/// Measures Luge and its peers with the same workload.
#[derive(Parser)]
#[command(name = "luge-bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure all servers that are there, in turns, and write tables, plots and JSON
    Compare(Compare),
    /// Measure Luge beside the published figures of a host of Wasm plugins
    Hosting(Hosting),
    /// Measure how Luge's cost grows, one dimension after the other, and write a plot and a table for each
    Scaling(Scaling),
}

#[derive(clap::Args)]
struct Scaling {
    /// Which dimensions; without, all
    #[arg(long, value_delimiter = ',', value_enum, value_name = "NAME,…")]
    only: Vec<Sweep>,
    /// The server's durability
    #[arg(long, value_enum, default_value_t = Level::Everysec)]
    durability: Level,
    /// How long a point is measured, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Turns of each point, of which the one of the median throughput is told
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Fewer points, one turn of a quarter of the length at each
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    programs: Programs,
    /// Where the servers' folders are made; without, among the temporary files
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Where plots, tables and JSON are written
    #[arg(long, default_value = "target/scaling", value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(clap::Args)]
struct Hosting {
    /// How long a call is measured each time, in seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[command(flatten)]
    programs: Programs,
    /// Exit with 1 where a target is missed
    #[arg(long)]
    check: bool,
}

#[derive(clap::Args)]
struct Compare {
    /// Which workloads; without, all but `mixed`
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    workloads: Vec<String>,
    /// Which servers: luge, `luge reuse`, redis, valkey, tarantool; without, all that are there
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", hide_possible_values = true,
        value_parser = ["luge", "luge reuse", "redis", "valkey", "tarantool"])]
    servers: Vec<String>,
    /// Which levels of durability; without, both, where a workload has them
    #[arg(long, value_delimiter = ',', value_enum)]
    durability: Vec<Level>,
    /// Connections
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Requests under way on a connection: one measurement for each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pipeline: Vec<u32>,
    /// Turns of each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long a turn is measured, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Send so many requests a second, instead of the next once the last are answered
    #[arg(long, value_name = "REQUESTS")]
    rate: Option<f64>,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    programs: Programs,
    /// Where the servers' folders are made; without, among the temporary files
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Where the report is written
    #[arg(long, default_value = "target/compare", value_name = "FOLDER")]
    output: PathBuf,
    /// Three rounds of a tenth of the length
    #[arg(long)]
    quick: bool,
    /// Exit with 1 where a target is missed
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Compare(arguments) => compare(&arguments),
        Command::Hosting(arguments) => hosting(&arguments),
        Command::Scaling(arguments) => scaling(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn compare(arguments: &Compare) -> Result<ExitCode, String> {
    let (systems, absent) = system::find(&arguments.programs)?;
    for line in absent {
        eprintln!("{line}");
    }
    let is_asked = |it: &System| {
        arguments.servers.is_empty() || arguments.servers.iter().any(|name| name == it.name)
    };
    let systems: Vec<System> = systems.into_iter().filter(is_asked).collect();
    let workloads = chosen(arguments)?;
    let plan = plan(arguments)?;
    let mut figures = series::run(&plan, &systems, &workloads)?;
    figures.conditions = conditions(arguments, &plan, &systems);
    let page = report::write(&figures, &systems, &arguments.output)?;
    println!("{page}");
    eprintln!("written to {}", arguments.output.display());
    let missed = missed(&figures);
    match arguments.check && missed > 0 {
        true => Ok(ExitCode::FAILURE),
        false => Ok(ExitCode::SUCCESS),
    }
}

fn hosting(arguments: &Hosting) -> Result<ExitCode, String> {
    let (systems, _) = system::find(&arguments.programs)?;
    let [fresh, reused, ..] = systems.as_slice() else {
        return Err("there is no luge-server".to_owned());
    };
    let length =
        Duration::try_from_secs_f64(arguments.seconds).map_err(|error| error.to_string())?;
    let rows = hosting::measure(fresh, reused, length)?;
    print!("{}", hosting::table(&rows));
    match arguments.check && !rows.iter().all(hosting::Row::is_met) {
        true => Ok(ExitCode::FAILURE),
        false => Ok(ExitCode::SUCCESS),
    }
}

fn scaling(arguments: &Scaling) -> Result<ExitCode, String> {
    let (systems, _) = system::find(&arguments.programs)?;
    let luge = systems.into_iter().find(System::is_luge);
    let seconds = arguments.seconds / if arguments.quick { 4.0 } else { 1.0 };
    let length = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    let plan = stage::Plan {
        luge: luge.ok_or("there is no luge-server")?,
        level: arguments.durability,
        length,
        warm_up: length / 4,
        rounds: if arguments.quick { 1 } else { arguments.rounds } as usize,
        is_quick: arguments.quick,
        folder: arguments.folder.clone(),
    };
    stage::raise_file_limit()?;
    let is_asked = |it: &&Sweep| arguments.only.is_empty() || arguments.only.contains(*it);
    let mut report = scaling::report::Report {
        conditions: vec![command(), processors()],
        growths: Vec::new(),
    };
    for sweep in Sweep::all().iter().filter(is_asked) {
        report.growths.push(course::run(&plan, *sweep));
    }
    print!("{}", scaling::report::write(&report, &arguments.out)?);
    eprintln!("written to {}", arguments.out.display());
    match report.growths.iter().all(|it| it.ended.is_none()) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

fn chosen(arguments: &Compare) -> Result<Vec<Workload>, String> {
    let mut workloads = workload::all(&arguments.sizes);
    if arguments.workloads.is_empty() {
        workloads.retain(|it| it.name != "mixed");
        return Ok(workloads);
    }
    for name in &arguments.workloads {
        if workloads.iter().all(|it| it.name != name) {
            let names: Vec<&str> = workloads.iter().map(|it| it.name).collect();
            return Err(format!(
                "there is no workload {name:?}, but {}",
                names.join(", ")
            ));
        }
    }
    workloads.retain(|it| arguments.workloads.iter().any(|name| name == it.name));
    Ok(workloads)
}

fn plan(arguments: &Compare) -> Result<Plan, String> {
    let seconds = if arguments.quick {
        arguments.seconds / 10.0
    } else {
        arguments.seconds
    };
    let is_sane = |it: f64| it.is_finite() && it > 0.0;
    if !is_sane(seconds) || seconds > 1e6 || !arguments.rate.is_none_or(is_sane) {
        return Err("a length and a rate are positive numbers".to_owned());
    }
    if arguments.sizes.keys < 1000 || arguments.sizes.keys > 50_000_000 {
        return Err(format!(
            "{} keys; from 1,000 to 50,000,000 can be measured",
            arguments.sizes.keys
        ));
    }
    let levels = match arguments.durability.is_empty() {
        true => vec![Level::Everysec, Level::Always],
        false => arguments.durability.clone(),
    };
    Ok(Plan {
        connections: arguments.connections as usize,
        depths: arguments.pipeline.iter().map(|it| *it as usize).collect(),
        rounds: if arguments.quick {
            arguments.rounds.min(3)
        } else {
            arguments.rounds
        } as usize,
        length: Duration::from_secs_f64(seconds),
        warm_up: Duration::from_secs_f64(seconds / 4.0),
        rate: arguments.rate,
        keys: arguments.sizes.keys,
        levels,
        folder: arguments.folder.clone(),
    })
}

fn conditions(arguments: &Compare, plan: &Plan, systems: &[System]) -> Vec<(String, String)> {
    let mut said: Vec<(String, String)> = vec![command(), processors()];
    let mut say = |name: &str, value: String| said.push((name.to_owned(), value));
    for system in systems.iter().filter(|it| !it.is_for_functions()) {
        say(system.name, system.version());
    }
    say("connections", plan.connections.to_string());
    say("keys", plan.keys.to_string());
    say(
        "a turn",
        format!("{:?}, after {:?} of warming up", plan.length, plan.warm_up),
    );
    say("rounds", plan.rounds.to_string());
    match arguments.rate {
        Some(rate) => say(
            "rate",
            format!("{rate} a second; latency counts from when a request was due"),
        ),
        None => say(
            "loop",
            "closed; latency counts from when a request was sent".to_owned(),
        ),
    }
    said
}

fn command() -> (String, String) {
    let words: Vec<String> = std::env::args().skip(1).collect();
    (
        "command".to_owned(),
        format!("`luge-bench {}`", words.join(" ")),
    )
}

fn processors() -> (String, String) {
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    ("processors".to_owned(), count.to_string())
}

/// Lists the targets that were missed; answers how many.
fn missed(figures: &Figures) -> usize {
    let missed: Vec<_> = target::outcomes(figures)
        .into_iter()
        .filter(|it| it.is_met() == Some(false))
        .collect();
    for it in &missed {
        let ratio = it.ratio.map_or_else(String::new, markdown::ratio);
        eprintln!(
            "missed: {}: {} is {ratio} times that of {}, aimed at {}",
            it.name,
            it.figure,
            it.peer,
            it.aim()
        );
    }
    missed.len()
}
