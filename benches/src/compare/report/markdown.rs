//! The page with the tables.

use std::fmt::Write;

use crate::compare::figures::{Figures, Point, Spread};
use crate::compare::system::System;
use crate::compare::target;

/// The page: how it was measured, the targets, all figures, memory, and the plots by file and title.
#[must_use]
pub fn page(figures: &Figures, systems: &[System], plots: &[(String, String)]) -> String {
    let mut page = String::from("# Luge and its peers\n\n");
    for (name, value) in &figures.conditions {
        let _ = writeln!(page, "- {name}: {value}");
    }
    durability(&mut page, figures, systems);
    targets(&mut page, figures);
    for point in figures.points() {
        cells(&mut page, figures, systems, point);
    }
    memory(&mut page, figures);
    for (file, title) in plots {
        let _ = write!(page, "\n![{title}]({file})\n");
    }
    page
}

fn durability(page: &mut String, figures: &Figures, systems: &[System]) {
    let mut levels: Vec<_> = figures.points().iter().map(|it| it.durability).collect();
    levels.dedup();
    page.push_str("\n## Durability\n\nEach comparison is between servers of the same level.\n\n");
    page.push_str("| level | server | settings |\n|---|---|---|\n");
    for level in levels {
        for system in systems.iter().filter(|it| !it.is_for_functions()) {
            let _ = writeln!(
                page,
                "| {} | {} | `{}` |",
                level.name(),
                system.name,
                system.durability(level)
            );
        }
    }
}

fn targets(page: &mut String, figures: &Figures) {
    let outcomes = target::outcomes(figures);
    if outcomes.is_empty() {
        return;
    }
    page.push_str(
        "\n## Targets\n\nRatios are medians over the rounds, with the least and the most.\n\n",
    );
    page.push_str("| workload | figure | beside | ratio | aim | |\n|---|---|---|---|---|---|\n");
    for outcome in outcomes {
        let met = match outcome.is_met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        let ratio = outcome.ratio.map_or_else(String::new, ratio);
        let (name, figure, peer, aim) =
            (&outcome.name, outcome.figure, outcome.peer, outcome.aim());
        let _ = writeln!(
            page,
            "| {name} | {figure} | {peer} | {ratio} | {aim} | {met} |"
        );
    }
}

/// A ratio with its spread.
#[must_use]
pub fn ratio(spread: Spread) -> String {
    let digits = if spread.median < 0.2 { 3 } else { 2 };
    let Spread {
        median,
        least,
        most,
    } = spread;
    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
}

fn cells(page: &mut String, figures: &Figures, systems: &[System], point: Point) {
    let level = point.durability;
    let _ = write!(
        page,
        "\n## {}, {}, pipeline {}\n\n",
        point.workload,
        level.name(),
        point.depth
    );
    page.push_str("| server | requests a second | CPU µs each | p50 µs | p99 µs | p99.9 µs | generator ns each | errors |\n");
    page.push_str("|---|---|---|---|---|---|---|---|\n");
    for system in systems {
        let Some(cell) = figures.cell(point, system.name) else {
            continue;
        };
        let median = |figure| cell.spread(figure).map_or(0.0, |it| it.median);
        let rate = cell.spread(|it| it.rate).unwrap_or(Spread {
            median: 0.0,
            least: 0.0,
            most: 0.0,
        });
        let errors: u64 = cell.samples.iter().map(|it| it.errors).sum();
        let _ = writeln!(
            page,
            "| {} | {} ({}–{}) | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {errors} |",
            system.name,
            thousands(rate.median),
            thousands(rate.least),
            thousands(rate.most),
            median(|it| it.cpu_us),
            median(|it| it.p50_us),
            median(|it| it.p99_us),
            median(|it| it.p999_us),
            median(|it| it.own_ns),
        );
    }
}

fn memory(page: &mut String, figures: &Figures) {
    page.push_str(
        "\n## Memory\n\nThe peak of a server's resident set over all workloads of a level.\n\n",
    );
    page.push_str("| server | level | MiB |\n|---|---|---|\n");
    for memory in &figures.memory {
        let mebibytes = memory.peak_bytes >> 20;
        let _ = writeln!(
            page,
            "| {} | {} | {mebibytes} |",
            memory.process,
            memory.durability.name()
        );
    }
}

/// A number without its fraction, in groups of three digits.
#[must_use]
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_from_the_end() {
        assert_eq!(thousands(0.4), "0");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(1_000.0), "1,000");
        assert_eq!(thousands(12_345_678.6), "12,345,679");
    }

    #[test]
    fn small_ratios_keep_their_digits() {
        let spread = |median| Spread {
            median,
            least: median,
            most: median,
        };
        assert_eq!(ratio(spread(0.0456)), "0.046 (0.046–0.046)");
        assert_eq!(ratio(spread(1.5)), "1.50 (1.50–1.50)");
    }
}
