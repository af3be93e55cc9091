//! Luge beside the figures that a host of Wasm plugins in production published of itself.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::figures::spread;
use super::instances::Instance;
use super::request::{Ask, drawn};
use super::server::Server;
use super::system::{Level, System};
use crate::load::client::Client;
use crate::load::generator::{self, Load};
use crate::load::keys::{Distribution, Keys};
use crate::load::template::Template;

/// Modules that a server has when it starts.
const MODULES: usize = 10;

/// How often a start is measured; the median is told.
const STARTS: usize = 9;

/// How often the cost of a call is measured; the median is told.
const ROUNDS: usize = 5;

/// A figure beside the published one.
pub struct Row {
    what: &'static str,
    published: f64,
    measured: f64,
    unit: &'static str,
    /// How many times better it is to be.
    goal: f64,
    is_more_better: bool,
}

impl Row {
    fn times(&self) -> f64 {
        match self.is_more_better {
            true => self.measured / self.published,
            false => self.published / self.measured,
        }
    }

    /// Whether it is as much better as it is to be.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.times() >= self.goal
    }
}

/// Measures what can be measured of a server from outside.
///
/// # Errors
/// The server does not start, or refuses.
pub fn measure(luge: &System, reused: &System, length: Duration) -> Result<Vec<Row>, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let server = luge.start(Level::Everysec, folder.path())?;
    let mut client = Client::connect(&luge.dialect(), server.address)?;
    luge.register(&mut client)?;
    reused.register(&mut client)?;
    let noop = Ask::Call("noop", Vec::new());
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let ping = cpu(&server, luge, &luge.ping(), length)?;
        cold.push(
            cpu(
                &server,
                luge,
                &luge.encode(std::slice::from_ref(&noop)),
                length,
            )? - ping,
        );
        warm.push(
            cpu(
                &server,
                luge,
                &reused.encode(std::slice::from_ref(&noop)),
                length,
            )? - ping,
        );
    }
    let median = |values| spread(values).map_or(f64::NAN, |it| it.median);
    let row = |what, published, measured, unit, goal| Row {
        what,
        published,
        measured,
        unit,
        goal,
        is_more_better: false,
    };
    server.stop()?;
    let instance = Instance::measure(luge)?;
    #[expect(clippy::cast_precision_loss, reason = "a module has a few KiB")]
    let kibibytes = luge.module_bytes() as f64 / 1024.0;
    Ok(vec![
        row(
            "a call with a fresh instance, more than a `ping`",
            800.0,
            median(cold),
            "µs",
            100.0,
        ),
        row(
            "a call with a kept instance, more than a `ping`",
            100.0,
            median(warm),
            "µs",
            100.0,
        ),
        row(
            "the memory of an instance in a call",
            2.0 * 1024.0,
            instance.kibibytes,
            "KiB",
            100.0,
        ),
        Row {
            is_more_better: true,
            ..row(
                "instances at once in 4 GiB, at the kernel's default bound on mappings",
                1_800.0,
                instance.within(4.0 * 1024.0 * 1024.0),
                "",
                10.0,
            )
        },
        row(
            "the module with all functions of the workloads",
            3.2 * 1024.0,
            kibibytes,
            "KiB",
            30.0,
        ),
        row(
            "from `exec` to the first hooked request, with 10 modules",
            5.0,
            median(starts(luge)?),
            "ms",
            1.0,
        ),
    ])
}

/// Microseconds of the server's processor time for one request.
fn cpu(
    server: &Server,
    system: &System,
    request: &Template,
    length: Duration,
) -> Result<f64, String> {
    let load = Load {
        address: server.address,
        dialect: &system.dialect(),
        mix: &[(100, request.clone())],
        connections: 8,
        depth: 16,
        rate: None,
        warm_up: length / 4,
        length,
    };
    let mut keys = Keys::new(2, Distribution::Uniform, 1);
    let measured = generator::run(&load, &mut keys, &mut || server.cpu())?;
    if let Some(error) = measured.first_error {
        return Err(error);
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a run has far fewer replies than 2^53"
    )]
    let replies = measured.replies.max(1) as f64;
    Ok(measured.server_cpu.as_secs_f64() * 1e6 / replies)
}

/// Milliseconds from a start to the reply to a `set` that a hook has checked, on a folder with modules, after a stop in order.
fn starts(luge: &System) -> Result<Vec<f64>, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let server = luge.start(Level::Always, folder.path())?;
    let mut client = Client::connect(&luge.dialect(), server.address)?;
    for number in 0..MODULES {
        client.each(&luge.distinct_push(number), std::iter::once(0))?;
    }
    server.stop()?;
    (0..STARTS).map(|_| start(luge, folder.path())).collect()
}

fn start(luge: &System, folder: &Path) -> Result<f64, String> {
    let checked = Ask::CheckedSet(drawn("hook:"), r#"{"name":"Ann","age":1}"#.to_owned());
    let request = luge.encode(std::slice::from_ref(&checked));
    let began = Instant::now();
    let server = luge.start(Level::Always, folder)?;
    let mut client = Client::connect(&luge.dialect(), server.address)?;
    client.each(&request, std::iter::once(0))?;
    let took = began.elapsed();
    server.stop()?;
    Ok(took.as_secs_f64() * 1e3)
}

/// The table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut table =
        String::from("| | published | Luge | times better | aim | |\n|---|---|---|---|---|---|\n");
    for row in rows {
        let met = if row.is_met() { "met" } else { "**missed**" };
        let (unit, times) = (row.unit, row.times());
        let _ = writeln!(
            table,
            "| {} | {:.0} {unit} | {:.1} {unit} | {times:.1} | ≥ {} | {met} |",
            row.what, row.published, row.measured, row.goal
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_or_more_is_as_many_times_better() {
        let mut row = Row {
            what: "x",
            published: 800.0,
            measured: 4.0,
            unit: "µs",
            goal: 100.0,
            is_more_better: false,
        };
        assert!(row.is_met());
        assert!(table(std::slice::from_ref(&row)).contains("| 200.0 | ≥ 100 | met |"));
        row.measured = 9.0;
        assert!(!row.is_met());
        row.is_more_better = true;
        row.measured = 80_000.0;
        assert!(row.is_met());
    }
}
