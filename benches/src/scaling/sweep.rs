//! The dimensions, and the points at which each is measured.

use clap::ValueEnum;

use crate::compare::report::markdown::thousands;

/// A dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sweep {
    /// Connections that ask one thing after the other
    Connections,
    /// Requests under way on each connection
    Pipeline,
    /// Bytes of a value
    ValueSize,
    /// Keys that there are
    Keys,
    /// Modules that there are
    Modules,
    /// Hooks on a command
    Hooks,
    /// Keys that a procedure reads
    ReadSet,
    /// Keys that a procedure writes
    WriteSet,
    /// The share of calls that change one and the same key
    Contention,
}

impl Sweep {
    /// All of them, in the order of the page.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Its name on the command line, and that of its files.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |it| it.get_name().to_owned())
    }

    /// What stands below its axis.
    #[must_use]
    pub const fn axis(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pipeline => "requests under way on a connection",
            Self::ValueSize => "size of a value",
            Self::Keys => "keys",
            Self::Modules => "modules",
            Self::Hooks => "hooks on a command",
            Self::ReadSet => "keys that a call reads",
            Self::WriteSet => "keys that a call writes",
            Self::Contention => "calls that change one hot key",
        }
    }

    /// Where it is measured, in ascending order.
    #[must_use]
    pub const fn points(self, is_quick: bool) -> &'static [u64] {
        match (self, is_quick) {
            (Self::Connections, false) => &[
                1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000,
            ],
            (Self::Connections, true) => &[1, 10, 100, 1_000, 10_000],
            (Self::Pipeline, false) => &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
            (Self::Pipeline, true) => &[1, 8, 64, 512],
            (Self::ValueSize, false) => &[
                16,
                64,
                256,
                1 << 10,
                4 << 10,
                16 << 10,
                64 << 10,
                256 << 10,
                1 << 20,
            ],
            (Self::ValueSize, true) => &[16, 256, 4 << 10, 64 << 10, 1 << 20],
            (Self::Keys, false) => &[
                10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000,
            ],
            (Self::Keys, true) => &[10_000, 100_000, 1_000_000],
            (Self::Modules, false) => &[1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000],
            (Self::Modules, true) => &[1, 10, 100, 1_000],
            (Self::Hooks, false) => &[0, 1, 2, 4, 8, 16, 32],
            (Self::Hooks, true) => &[0, 1, 8, 32],
            (Self::ReadSet | Self::WriteSet, false) => &[1, 3, 10, 30, 100, 300, 1_000],
            (Self::ReadSet | Self::WriteSet, true) => &[1, 10, 100, 1_000],
            (Self::Contention, false) => &[0, 1, 5, 10, 20, 50, 80, 100],
            (Self::Contention, true) => &[0, 10, 50, 100],
        }
    }

    /// Whether each point is a multiple of the one before, and not so much more.
    #[must_use]
    pub const fn is_logarithmic(self) -> bool {
        !matches!(self, Self::Hooks | Self::Contention)
    }

    /// Whether the server's memory grows with it, so that it belongs into the plot.
    #[must_use]
    pub const fn shows_memory(self) -> bool {
        matches!(self, Self::Connections | Self::Keys | Self::Modules)
    }

    /// A point as people write it.
    #[must_use]
    pub fn label(self, at: u64) -> String {
        #[expect(clippy::cast_precision_loss, reason = "points lie far below 2^53")]
        let number = thousands(at as f64);
        match self {
            Self::ValueSize if at >= 1 << 20 => format!("{} MiB", at >> 20),
            Self::ValueSize if at >= 1 << 10 => format!("{} KiB", at >> 10),
            Self::ValueSize => format!("{at} B"),
            Self::Contention => format!("{at} %"),
            _ => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sweep_has_a_name_and_ascending_points() {
        let names: Vec<String> = Sweep::all().iter().map(|it| it.name()).collect();
        assert_eq!(
            names.join(" "),
            "connections pipeline value-size keys modules hooks read-set write-set contention"
        );
        for sweep in Sweep::all() {
            for is_quick in [false, true] {
                assert!(sweep.points(is_quick).is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn a_quick_run_begins_where_a_full_one_does_and_goes_no_further() {
        for sweep in Sweep::all() {
            let (full, quick) = (sweep.points(false), sweep.points(true));
            assert_eq!(quick.first(), full.first());
            assert!(quick.len() < full.len());
            assert!(quick.iter().all(|it| full.contains(it)), "{sweep:?}");
        }
        assert_eq!(Sweep::Keys.points(true).last(), Some(&1_000_000));
        assert_eq!(Sweep::Modules.points(true).last(), Some(&1_000));
    }

    #[test]
    fn logarithmic_axes_have_no_zero() {
        for sweep in Sweep::all() {
            let begins_at_zero = sweep.points(false).first() == Some(&0);
            assert_eq!(sweep.is_logarithmic(), !begins_at_zero, "{sweep:?}");
        }
    }

    #[test]
    fn points_are_labelled_with_their_unit() {
        assert_eq!(Sweep::ValueSize.label(16), "16 B");
        assert_eq!(Sweep::ValueSize.label(64 << 10), "64 KiB");
        assert_eq!(Sweep::ValueSize.label(1 << 20), "1 MiB");
        assert_eq!(Sweep::Contention.label(5), "5 %");
        assert_eq!(Sweep::Keys.label(10_000_000), "10,000,000");
    }
}
