//! What a sweep finds.

use serde::Serialize;

use super::sweep::Sweep;
use crate::compare::figures::Sample;

/// One point of a curve.
#[derive(Clone, Debug, Serialize)]
pub struct Spot {
    /// How many, or how large.
    pub at: u64,
    /// What was measured there.
    #[serde(flatten)]
    pub sample: Sample,
    /// The server's resident set at the end of it, with all connections open.
    pub resident_bytes: u64,
    /// What else this sweep asks, as names and values; the same names at all points of a curve.
    pub more: Vec<(&'static str, f64)>,
}

/// Points that belong together.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// What is asked.
    pub name: &'static str,
    /// The points, in ascending order.
    pub spots: Vec<Spot>,
}

/// A sweep, as far as it went.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// Which one.
    pub sweep: Sweep,
    /// Its curves.
    pub curves: Vec<Curve>,
    /// Why it has no more points, where it ended before the last one.
    pub ended: Option<String>,
}

impl Growth {
    /// Of nothing yet.
    #[must_use]
    pub const fn new(sweep: Sweep) -> Self {
        Self {
            sweep,
            curves: Vec::new(),
            ended: None,
        }
    }

    /// Adds a point to a curve.
    pub fn add(&mut self, name: &'static str, spot: Spot) {
        match self.curves.iter_mut().find(|it| it.name == name) {
            Some(curve) => curve.spots.push(spot),
            None => self.curves.push(Curve {
                name,
                spots: vec![spot],
            }),
        }
    }

    /// The names of what it asks besides.
    #[must_use]
    pub fn more(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for spot in self.curves.iter().flat_map(|it| &it.spots) {
            for (name, _) in &spot.more {
                if !names.contains(name) {
                    names.push(*name);
                }
            }
        }
        names
    }
}

impl Spot {
    /// What it has under this name.
    #[must_use]
    pub fn one_more(&self, name: &str) -> Option<f64> {
        let found = self.more.iter().find(|it| it.0 == name);
        found.map(|it| it.1)
    }
}

/// A point for tests, with nothing but a rate, a latency and a size.
#[cfg(test)]
pub(super) fn spot(at: u64, rate: f64, p99_us: f64) -> Spot {
    Spot {
        at,
        sample: Sample {
            rate,
            cpu_us: 1.5,
            own_ns: 100.0,
            p50_us: p99_us / 2.0,
            p99_us,
            p999_us: p99_us * 2.0,
            errors: 0,
        },
        resident_bytes: 3 << 20,
        more: Vec::new(),
    }
}
