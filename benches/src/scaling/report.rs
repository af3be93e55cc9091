//! What the sweeps found, for people and for programs.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::growth::{Curve, Growth, Spot};
use super::plot;
use crate::compare::report::markdown::thousands;

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How it was measured, as names and values.
    pub conditions: Vec<(String, String)>,
    /// The sweeps.
    pub growths: Vec<Growth>,
}

/// Writes `scaling.json`, and a plot and a table for each sweep, into a folder; answers all tables.
///
/// # Errors
/// A file can't be written.
pub fn write(report: &Report, folder: &Path) -> Result<String, String> {
    let cannot = |error| format!("can't write to {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(cannot)?;
    let json = serde_json::to_string_pretty(report).map_err(|error| format!("no JSON: {error}"))?;
    fs::write(folder.join("scaling.json"), json).map_err(cannot)?;
    let mut page = String::new();
    for (name, value) in &report.conditions {
        let _ = writeln!(page, "- {name}: {value}");
    }
    for growth in &report.growths {
        let name = growth.sweep.name();
        fs::write(folder.join(format!("{name}.svg")), plot::picture(growth)).map_err(cannot)?;
        let table = table(growth);
        fs::write(folder.join(format!("{name}.md")), &table).map_err(cannot)?;
        let _ = write!(page, "\n## {name}\n\n{table}");
    }
    Ok(page)
}

/// The table of a sweep, ready for the page.
#[must_use]
pub fn table(growth: &Growth) -> String {
    let more = growth.more();
    let names_curves = growth.curves.len() > 1;
    let mut heads = Vec::new();
    if names_curves {
        heads.push("");
    }
    heads.push(growth.sweep.axis());
    heads.extend(["requests a second", "CPU µs each", "p50 µs", "p99 µs"]);
    heads.push("resident MiB");
    heads.extend(&more);
    let has_errors = growth.curves.iter().any(Curve::has_errors);
    if has_errors {
        heads.push("errors");
    }
    let mut table = format!(
        "| {} |\n|{}\n",
        heads.join(" | "),
        "---|".repeat(heads.len())
    );
    for curve in &growth.curves {
        for spot in &curve.spots {
            let mut cells = Vec::new();
            if names_curves {
                cells.push(curve.name.to_owned());
            }
            cells.push(growth.sweep.label(spot.at));
            cells.extend(figures(spot));
            let shown = |name: &&str| spot.one_more(name).map_or_else(String::new, number);
            cells.extend(more.iter().map(shown));
            if has_errors {
                cells.push(spot.sample.errors.to_string());
            }
            let _ = writeln!(table, "| {} |", cells.join(" | "));
        }
    }
    if let Some(why) = &growth.ended {
        let _ = write!(table, "\nIt ended there: {}\n", why.trim());
    }
    table
}

fn figures(spot: &Spot) -> [String; 5] {
    let sample = &spot.sample;
    let resident = plot::mebibytes(spot);
    [
        thousands(sample.rate),
        number(sample.cpu_us),
        thousands(sample.p50_us),
        thousands(sample.p99_us),
        thousands(resident),
    ]
}

/// A number with as many digits as it is worth.
fn number(value: f64) -> String {
    match value {
        it if it >= 100.0 => thousands(it),
        it if it >= 10.0 => format!("{it:.1}"),
        it if it >= 0.1 || it == 0.0 => format!("{it:.2}"),
        it => format!("{it:.4}"),
    }
}

impl Curve {
    fn has_errors(&self) -> bool {
        self.spots.iter().any(|it| it.sample.errors > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::growth::spot;
    use super::super::sweep::Sweep;
    use super::*;

    #[test]
    fn a_table_of_one_curve_does_not_name_it() {
        let mut growth = Growth::new(Sweep::Connections);
        growth.add("get", spot(1_000, 12_345.6, 250.0));
        assert_eq!(
            table(&growth),
            "| connections | requests a second | CPU µs each | p50 µs | p99 µs | resident MiB |\n\
             |---|---|---|---|---|---|\n\
             | 1,000 | 12,346 | 1.50 | 125 | 250 | 3 |\n"
        );
    }

    #[test]
    fn a_table_names_curves_and_errors_and_all_that_is_asked_besides() {
        let mut growth = Growth::new(Sweep::ValueSize);
        growth.add("get", spot(16, 1.0, 1.0));
        let mut set = spot(1 << 20, 2.0, 2.0);
        set.more.push(("MiB a second", 1_234.0));
        set.sample.errors = 7;
        growth.add("set", set);
        growth.ended = Some("the server is gone\n".to_owned());
        assert_eq!(
            table(&growth),
            "|  | size of a value | requests a second | CPU µs each | p50 µs | p99 µs | resident MiB | MiB a second | errors |\n\
             |---|---|---|---|---|---|---|---|---|\n\
             | get | 16 B | 1 | 1.50 | 0 | 1 | 3 |  | 0 |\n\
             | set | 1 MiB | 2 | 1.50 | 1 | 2 | 3 | 1,234 | 7 |\n\
             \nIt ended there: the server is gone\n"
        );
    }

    #[test]
    fn small_numbers_keep_their_digits() {
        let shown = [0.0, 0.0123, 0.5, 12.34, 1_234.5].map(number);
        assert_eq!(shown, ["0.00", "0.0123", "0.50", "12.3", "1,234"]);
    }

    #[test]
    fn a_folder_has_a_plot_and_a_table_for_each_sweep() {
        let folder = tempfile::tempdir().unwrap();
        let mut growth = Growth::new(Sweep::ReadSet);
        growth.add("read", spot(1, 1.0, 1.0));
        let report = Report {
            conditions: vec![("processors".to_owned(), "2".to_owned())],
            growths: vec![growth],
        };
        let page = write(&report, folder.path()).unwrap();
        assert!(page.starts_with("- processors: 2\n\n## read-set\n\n| keys that a call reads |"));
        for file in ["scaling.json", "read-set.svg", "read-set.md"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
    }
}
