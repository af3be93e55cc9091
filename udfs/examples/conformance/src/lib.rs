//! Not an example but a probe: runs the shared cases of `udfs/sdk/cases` through the host functions as they are.
//!
//! The same code runs natively, in the tests of `luge-udf`, and as a module, in the tests of the server, so that both
//! stores are held to one behaviour. The format of the cases is written down beside them.

mod allocations;
mod bytes;
mod step;

use luge_udf::{Refusal, decimal, procedure};
use serde::{Deserialize, Serialize};

use step::{Observed, Scans, Step};

luge_udf::module! { description = "Runs cases that hold every host to the same behaviour" }

#[derive(Deserialize)]
pub(crate) struct Call<'a> {
    #[serde(borrow)]
    steps: Vec<Step<'a>>,
    /// Refuses at the end, with this code.
    #[serde(default)]
    refuse: Option<i32>,
}

/// What the steps did; the case holds if there are no failures.
#[derive(Serialize)]
pub(crate) struct Report {
    failures: Vec<String>,
    observed: Vec<Observed>,
}

/// Runs steps in one transaction, and reports what they returned and where that is not what they expect.
#[procedure]
pub(crate) fn run(call: Call<'_>) -> Result<Report, Refusal> {
    let mut scans = Scans::default();
    let mut report = Report {
        failures: Vec::new(),
        observed: Vec::new(),
    };
    for (index, step) in call.steps.iter().enumerate() {
        let observed = step.run(&mut scans);
        if let Some(difference) = step.difference(&observed) {
            let index = decimal::format(i64::try_from(index).unwrap_or(i64::MAX));
            report
                .failures
                .push(["step ", &index, ", ", step.op, ": ", difference].concat());
        }
        report.observed.push(observed);
    }
    match call.refuse {
        Some(code) => Err(Refusal::new(code, &report)),
        None => Ok(report),
    }
}

/// The same in a procedure that may not write.
#[procedure(read_only)]
pub(crate) fn run_read_only(call: Call<'_>) -> Result<Report, Refusal> {
    run(call)
}

/// Allocates and frees so many times; refuses with the round in which an allocation was found damaged.
#[procedure]
pub(crate) fn allocate(rounds: u32) -> Result<u64, Refusal> {
    allocations::run(rounds).map_err(|round| Refusal::new(1, &round))
}
