//! Medians, spreads and ratios of what was measured in turns.

use serde::Serialize;

use super::system::Level;

/// One turn.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Replies a second.
    pub rate: f64,
    /// Microseconds of the server's processor time for each.
    pub cpu_us: f64,
    /// Nanoseconds of the generator's own for each.
    pub own_ns: f64,
    /// Percentiles of the latency, in microseconds.
    pub p50_us: f64,
    /// As above.
    pub p99_us: f64,
    /// As above.
    pub p999_us: f64,
    /// Replies that were errors.
    pub errors: u64,
}

/// Which workload, how durable, how deep the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The workload's name.
    pub workload: &'static str,
    /// The durability of both sides.
    pub durability: Level,
    /// Requests under way on a connection.
    pub depth: usize,
}

/// All turns of one server at one point.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Where.
    #[serde(flatten)]
    pub point: Point,
    /// Whose.
    pub system: &'static str,
    /// The turns, in their order.
    pub samples: Vec<Sample>,
}

/// The most memory that a server had at one level.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Whose.
    pub process: &'static str,
    /// The level.
    pub durability: Level,
    /// The resident set's peak.
    pub peak_bytes: u64,
}

/// What a run found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// How it was measured, as names and values.
    pub conditions: Vec<(String, String)>,
    /// What was measured.
    pub cells: Vec<Cell>,
    /// Peaks of memory.
    pub memory: Vec<Memory>,
}

/// A figure of a sample.
pub type Figure = fn(&Sample) -> f64;

/// A median, and the least and the most beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// The median and what lies around it; nothing where there is nothing.
#[must_use]
pub fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let median = match values.len() % 2 {
        0 => f64::midpoint(*values.get(middle - 1)?, upper),
        _ => upper,
    };
    Some(Spread {
        median,
        least,
        most,
    })
}

impl Cell {
    /// The spread of a figure over its turns.
    #[must_use]
    pub fn spread(&self, figure: Figure) -> Option<Spread> {
        spread(self.samples.iter().map(figure).collect())
    }
}

impl Figures {
    /// The turns of a server at a point.
    #[must_use]
    pub fn cell(&self, point: Point, system: &str) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|it| it.point == point && it.system == system)
    }

    /// How many times one server's figure is another's, turn by turn: both had their turn in the same round, so what
    /// the machine did otherwise meanwhile is the same for both.
    #[must_use]
    pub fn ratio(&self, point: Point, system: &str, other: &str, figure: Figure) -> Option<Spread> {
        let of = |name| {
            self.cell(point, name)
                .map(|it| it.samples.iter().map(figure))
        };
        let pairs = of(system)?.zip(of(other)?);
        spread(pairs.map(|(one, other)| one / other).collect())
    }

    /// The points, in the order in which they were measured.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        for cell in &self.cells {
            if !points.contains(&cell.point) {
                points.push(cell.point);
            }
        }
        points
    }

    /// The servers, Luge's ways of running functions first, the others as they were measured.
    #[must_use]
    pub fn systems(&self) -> Vec<&'static str> {
        let mut systems = Vec::new();
        for cell in &self.cells {
            if !systems.contains(&cell.system) {
                systems.push(cell.system);
            }
        }
        systems.sort_by_key(|it| !it.starts_with("luge"));
        systems
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const POINT: Point = Point {
        workload: "get",
        durability: Level::Everysec,
        depth: 1,
    };

    pub(crate) fn cell(system: &'static str, rates: &[f64]) -> Cell {
        let sample = |rate: &f64| Sample {
            rate: *rate,
            cpu_us: 1.0,
            own_ns: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            p999_us: 1.0,
            errors: 0,
        };
        Cell {
            point: POINT,
            system,
            samples: rates.iter().map(sample).collect(),
        }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        let expected = Spread {
            median: 2.5,
            least: 1.0,
            most: 4.0,
        };
        assert_eq!(spread(vec![4.0, 1.0, 2.0, 3.0]), Some(expected));
        assert_eq!(spread(vec![9.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(spread(vec![]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let figures = Figures {
            // A machine that was half as fast in the second round.
            cells: vec![
                cell("luge", &[200.0, 100.0, 240.0]),
                cell("redis", &[100.0, 50.0, 100.0]),
            ],
            ..Figures::default()
        };
        let ratio = figures.ratio(POINT, "luge", "redis", |it| it.rate).unwrap();
        assert_eq!(
            ratio,
            Spread {
                median: 2.0,
                least: 2.0,
                most: 2.4
            }
        );
        assert_eq!(figures.ratio(POINT, "luge", "valkey", |it| it.rate), None);
    }
}
