//! What Luge is to reach beside its peers.

use super::figures::{Figure, Figures, Point, Spread};
use super::system::Level;

/// Whom a target compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// The better of Redis and Valkey.
    Better,
    Tarantool,
}

/// One row: the least ratios of throughput at pipelines of 1 and 64, and the highest one of processor time at 16.
struct Row {
    workload: &'static str,
    durability: Level,
    system: &'static str,
    peer: Peer,
    shallow: Option<f64>,
    deep: Option<f64>,
    cpu: Option<f64>,
}

const fn row(workload: &'static str, system: &'static str, goals: [f64; 3]) -> Row {
    let [shallow, deep, cpu] = goals;
    Row {
        workload,
        durability: Level::Everysec,
        system,
        peer: Peer::Better,
        shallow: Some(shallow),
        deep: Some(deep),
        cpu: if cpu > 0.0 { Some(cpu) } else { None },
    }
}

const fn always(row: Row) -> Row {
    Row {
        durability: Level::Always,
        ..row
    }
}

const fn tarantool(row: Row) -> Row {
    Row {
        peer: Peer::Tarantool,
        ..row
    }
}

/// No goal for processor time.
const NONE: f64 = 0.0;

const ROWS: &[Row] = &[
    row("get", "luge", [1.0, 1.3, 1.2]),
    row("set", "luge", [1.0, 1.0, 1.5]),
    always(row("set", "luge", [1.2, 1.3, 1.5])),
    row("noop", "luge", [0.9, 0.5, NONE]),
    row("noop", "luge reuse", [1.0, 1.0, 1.2]),
    row("transfer", "luge", [0.9, 1.2, 1.3]),
    row("transfer", "luge reuse", [1.0, 1.8, 0.8]),
    always(row("transfer", "luge", [0.9, 1.2, 1.3])),
    always(row("transfer", "luge reuse", [1.0, 1.8, 0.8])),
    row("hook", "luge", [0.9, 0.8, NONE]),
    row("hook", "luge reuse", [1.0, 1.3, NONE]),
    row("leaderboard", "luge", [1.2, 2.0, 0.6]),
    row("validate", "luge", [1.2, 2.0, 0.6]),
    row("filter", "luge", [1.2, 2.0, 0.6]),
    row("spin", "luge", [10.0, 20.0, 0.06]),
    tarantool(row("transfer", "luge", [1.0, 2.0, 0.8])),
    tarantool(always(row("transfer", "luge", [1.0, 2.0, 0.8]))),
];

/// A target, and what was measured.
pub struct Outcome {
    /// The workload, the level and who.
    pub name: String,
    /// What is compared.
    pub figure: &'static str,
    /// With whom.
    pub peer: &'static str,
    /// The ratio; nothing where one of the two was not measured.
    pub ratio: Option<Spread>,
    /// What it is to be: at least, or at most.
    pub goal: f64,
    /// Whether less is better.
    pub is_at_most: bool,
}

impl Outcome {
    /// Whether the median reaches the goal.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        let median = self.ratio?.median;
        Some(if self.is_at_most {
            median <= self.goal
        } else {
            median >= self.goal
        })
    }

    /// The goal, with its direction.
    #[must_use]
    pub fn aim(&self) -> String {
        let sign = if self.is_at_most { "≤" } else { "≥" };
        format!("{sign} {}", self.goal)
    }
}

/// All targets of what was measured.
#[must_use]
pub fn outcomes(figures: &Figures) -> Vec<Outcome> {
    let measured = |row: &&Row| {
        let is_there = |it: &Point| it.workload == row.workload && it.durability == row.durability;
        figures.points().iter().any(is_there)
    };
    ROWS.iter()
        .filter(measured)
        .flat_map(|row| of_row(figures, row))
        .collect()
}

fn of_row(figures: &Figures, row: &Row) -> Vec<Outcome> {
    let parts: [(usize, &'static str, Option<f64>, Figure, bool); 3] = [
        (
            1,
            "throughput, pipeline 1",
            row.shallow,
            |it| it.rate,
            false,
        ),
        (64, "throughput, pipeline 64", row.deep, |it| it.rate, false),
        (
            16,
            "CPU per request, pipeline 16",
            row.cpu,
            |it| it.cpu_us,
            true,
        ),
    ];
    let mut outcomes = Vec::new();
    for (depth, name, goal, figure, is_at_most) in parts {
        let Some(goal) = goal else { continue };
        let point = Point {
            workload: row.workload,
            durability: row.durability,
            depth,
        };
        let peer = match row.peer {
            Peer::Tarantool => "tarantool",
            Peer::Better => better(figures, point, figure, is_at_most),
        };
        outcomes.push(Outcome {
            name: format!("{} {}, {}", row.workload, row.durability.name(), row.system),
            figure: name,
            peer,
            ratio: figures.ratio(point, row.system, peer, figure),
            goal,
            is_at_most,
        });
    }
    outcomes
}

/// Which of the two has the better median.
fn better(figures: &Figures, point: Point, figure: Figure, is_less_better: bool) -> &'static str {
    let median = |name| Some(figures.cell(point, name)?.spread(figure)?.median);
    match (median("redis"), median("valkey")) {
        (Some(redis), Some(valkey)) if (redis < valkey) == is_less_better => "redis",
        (Some(_), None) => "redis",
        _ => "valkey",
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::cell;
    use super::*;

    fn found(rates: [(&'static str, &[f64]); 3]) -> Outcome {
        let cells = rates.map(|(name, rates)| cell(name, rates)).to_vec();
        let figures = Figures {
            cells,
            ..Figures::default()
        };
        outcomes(&figures).remove(0)
    }

    #[test]
    fn the_better_peer_is_the_measure() {
        let outcome = found([("luge", &[100.0]), ("redis", &[50.0]), ("valkey", &[125.0])]);
        assert_eq!(outcome.peer, "valkey");
        assert_eq!(outcome.is_met(), Some(false));
        let outcome = found([("luge", &[100.0]), ("redis", &[100.0]), ("valkey", &[25.0])]);
        assert_eq!(outcome.peer, "redis");
        assert_eq!(outcome.is_met(), Some(true));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let outcome = found([("luge", &[100.0]), ("redis", &[]), ("valkey", &[])]);
        assert_eq!(outcome.is_met(), None);
    }

    #[test]
    fn less_processor_time_is_better() {
        let figures = Figures {
            cells: vec![cell("redis", &[2.0]), cell("valkey", &[1.0])],
            ..Figures::default()
        };
        let point = super::super::figures::tests::POINT;
        assert_eq!(better(&figures, point, |it| it.rate, true), "valkey");
        assert_eq!(better(&figures, point, |it| it.rate, false), "redis");
    }
}
