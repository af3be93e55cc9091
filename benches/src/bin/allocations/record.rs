//! What was recorded, beside what was measured: which paths grew, and what the record becomes.

use std::fmt;

use crate::report::aligned;

/// The share that a figure may grow or shrink by without a word.
const MAX_CHANGE: f64 = 0.05;

/// What a figure may change by at any rate: a path with next to no allocations has next to no share of them.
const MAX_CHANGED: Figures = Figures {
    allocations: 0.05,
    bytes: 16.0,
};

/// What stands above the paths.
const HEAD: &str = "\
# What a request asks of the allocator, on the thread that serves it; README.md tells how this is measured and kept.
# Written by: cargo run --release -p luge-benches --bin allocations -- --record --note \"why it grew\"
";

const COLUMNS: [&str; 4] = ["path", "allocations", "bytes", "why it last grew"];

/// What a request allocates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    /// How often.
    pub(crate) allocations: f64,
    /// How much.
    pub(crate) bytes: f64,
}

/// A path's figures.
pub(crate) struct Measured {
    /// Its name.
    pub(crate) path: &'static str,
    /// What they are.
    pub(crate) figures: Figures,
}

/// The committed figures, in the order of the paths.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Record {
    lines: Vec<Line>,
}

#[derive(Debug, PartialEq)]
struct Line {
    path: String,
    figures: Figures,
    /// Why the path last grew.
    note: String,
}

/// How a path stands to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// About as recorded.
    Same,
    /// One of its figures is larger.
    Grew,
    /// One of its figures is smaller, and none larger.
    Shrank,
    /// It is not recorded.
    Unknown,
    /// It is recorded, and was not measured.
    Missing,
}

impl Verdict {
    /// Whether the record does not allow it.
    pub(crate) fn fails(self) -> bool {
        matches!(self, Self::Grew | Self::Unknown | Self::Missing)
    }

    /// Whether the record takes it over only with a reason.
    pub(crate) fn needs_note(self) -> bool {
        matches!(self, Self::Grew | Self::Unknown)
    }
}

impl Figures {
    fn verdict(self, recorded: Self) -> Verdict {
        let pairs = [
            (
                self.allocations,
                recorded.allocations,
                MAX_CHANGED.allocations,
            ),
            (self.bytes, recorded.bytes, MAX_CHANGED.bytes),
        ];
        let exceeds = |more: f64, less: f64, recorded: f64, at_any_rate: f64| {
            more - less > f64::max(recorded * MAX_CHANGE, at_any_rate)
        };
        let mut grew = pairs
            .iter()
            .map(|(new, old, rate)| exceeds(*new, *old, *old, *rate));
        let mut shrank = pairs
            .iter()
            .map(|(new, old, rate)| exceeds(*old, *new, *old, *rate));
        match (grew.any(|it| it), shrank.any(|it| it)) {
            (true, _) => Verdict::Grew,
            (false, true) => Verdict::Shrank,
            (false, false) => Verdict::Same,
        }
    }
}

impl Record {
    /// Reads what [`Record`] was written as.
    ///
    /// # Errors
    /// A line is none of its lines.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let is_path = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
        let lines = text.lines().filter(is_path).skip(1).map(Line::parse);
        let lines = lines.collect::<Result<_, _>>()?;
        Ok(Self { lines })
    }

    /// Every path that was measured or recorded, and how it stands.
    pub(crate) fn compare<'a>(&'a self, measured: &'a [Measured]) -> Vec<(&'a str, Verdict)> {
        let compared = measured.iter().map(|new| {
            let old = self.line(new.path);
            let verdict = old.map(|old| new.figures.verdict(old.figures));
            (new.path, verdict.unwrap_or(Verdict::Unknown))
        });
        let is_missing = |line: &&Line| measured.iter().all(|new| new.path != line.path);
        let missing = self.lines.iter().filter(is_missing);
        let missing = missing.map(|line| (line.path.as_str(), Verdict::Missing));
        compared.chain(missing).collect()
    }

    /// The record with what was measured in it. A path that is about as recorded keeps its line: a path that grows
    /// by little each time is seen once all of it is too much.
    ///
    /// # Errors
    /// A path grew or is new, and no reason is given.
    pub(crate) fn taken_over(
        &self,
        measured: &[Measured],
        note: Option<&str>,
    ) -> Result<Self, String> {
        let note = note.map(str::trim).filter(|note| !note.is_empty());
        if note.is_some_and(|note| note.contains(['|', '\n'])) {
            return Err("a note is one line without a |".to_owned());
        }
        let mut lines = Vec::new();
        for new in measured {
            let old = self.line(new.path);
            let verdict = old.map_or(Verdict::Unknown, |old| new.figures.verdict(old.figures));
            let kept = old.map_or("", |old| old.note.as_str());
            let note = match verdict.needs_note() {
                true => {
                    note.ok_or_else(|| format!("{} grew or is new: say why with --note", new.path))?
                }
                false => kept,
            };
            let figures = match (verdict, old) {
                (Verdict::Same, Some(old)) => old.figures,
                _ => new.figures,
            };
            lines.push(Line {
                path: new.path.to_owned(),
                figures,
                note: note.to_owned(),
            });
        }
        Ok(Self { lines })
    }

    /// The figures on record of a path.
    pub(crate) fn figures(&self, path: &str) -> Option<Figures> {
        self.line(path).map(|line| line.figures)
    }

    fn line(&self, path: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.path == path)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        rows.extend(self.lines.iter().map(|line| {
            let [allocations, bytes] = line.figures.shown();
            [line.path.clone(), allocations, bytes, line.note.clone()]
        }));
        write!(formatter, "{HEAD}{}", aligned(&rows))
    }
}

impl Line {
    fn parse(line: &str) -> Result<Self, String> {
        let wrong = || format!("the record has a line that is none of a path: {line}");
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [path, allocations, bytes, note] = columns[..] else {
            return Err(wrong());
        };
        let number = |text: &str| text.parse().map_err(|_| wrong());
        Ok(Self {
            path: path.to_owned(),
            figures: Figures {
                allocations: number(allocations)?,
                bytes: number(bytes)?,
            },
            note: note.to_owned(),
        })
    }
}

impl Figures {
    /// As they are printed and written.
    pub(crate) fn shown(self) -> [String; 2] {
        let Self { allocations, bytes } = self;
        [format!("{allocations:.2}"), format!("{bytes:.0}")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "\
# A head.
path | allocations | bytes | why it last grew
get  |        0.00 |     0 | at first
call |       10.00 |  1000 | spans
";

    fn measured(figures: &[(&'static str, f64, f64)]) -> Vec<Measured> {
        let measured = figures.iter().map(|(path, allocations, bytes)| Measured {
            path,
            figures: Figures {
                allocations: *allocations,
                bytes: *bytes,
            },
        });
        measured.collect()
    }

    /// What is said of `call` with these figures.
    fn verdict(allocations: f64, bytes: f64) -> Verdict {
        let record = Record::parse(RECORD).unwrap();
        let measured = measured(&[("get", 0.0, 0.0), ("call", allocations, bytes)]);
        record.compare(&measured)[1].1
    }

    /// The record with these figures of `call` taken over, as lines.
    fn taken_over(allocations: f64, bytes: f64, note: Option<&str>) -> Result<String, String> {
        let record = Record::parse(RECORD).unwrap();
        let measured = measured(&[("get", 0.0, 0.0), ("call", allocations, bytes)]);
        let taken = record.taken_over(&measured, note)?.to_string();
        Ok(taken.lines().last().unwrap().to_owned())
    }

    #[test]
    fn a_path_may_grow_by_a_twentieth_and_no_more() {
        assert_eq!(verdict(10.5, 1050.0), Verdict::Same);
        assert_eq!(verdict(10.51, 1000.0), Verdict::Grew);
        assert_eq!(verdict(10.0, 1051.0), Verdict::Grew);
        assert!(Verdict::Grew.fails());
        assert!(!Verdict::Same.fails());
    }

    #[test]
    fn a_path_that_shrinks_passes_and_one_that_grows_in_one_figure_alone_does_not() {
        assert_eq!(verdict(9.4, 1000.0), Verdict::Shrank);
        assert_eq!(verdict(9.4, 1100.0), Verdict::Grew);
        assert!(!Verdict::Shrank.fails());
    }

    #[test]
    fn a_path_without_allocations_may_have_one_in_twenty_requests() {
        let record = Record::parse(RECORD).unwrap();
        let verdict = |allocations, bytes| {
            let measured = measured(&[("get", allocations, bytes)]);
            record.compare(&measured)[0].1
        };
        assert_eq!(verdict(0.05, 16.0), Verdict::Same);
        assert_eq!(verdict(0.06, 0.0), Verdict::Grew);
        assert_eq!(verdict(0.0, 17.0), Verdict::Grew);
    }

    #[test]
    fn paths_that_are_unknown_or_missing_fail() {
        let record = Record::parse(RECORD).unwrap();
        let measured = measured(&[("get", 0.0, 0.0), ("set", 1.0, 1.0)]);
        let verdicts = record.compare(&measured);
        let expected = [
            ("get", Verdict::Same),
            ("set", Verdict::Unknown),
            ("call", Verdict::Missing),
        ];
        assert_eq!(verdicts, expected);
        assert!(Verdict::Unknown.fails() && Verdict::Missing.fails());
    }

    #[test]
    fn growth_is_recorded_with_a_note_only() {
        let refused = taken_over(11.0, 1000.0, None).unwrap_err();
        assert!(refused.starts_with("call grew"), "{refused}");
        assert!(taken_over(11.0, 1000.0, Some(" ")).is_err());
        assert!(taken_over(11.0, 1000.0, Some("a | b")).is_err());
        let line = taken_over(11.0, 1000.0, Some("it counts")).unwrap();
        assert_eq!(line, "call |       11.00 |  1000 | it counts");
    }

    #[test]
    fn a_new_path_is_recorded_with_a_note_only_and_a_missing_one_is_dropped() {
        let record = Record::parse(RECORD).unwrap();
        let measured = measured(&[("get", 0.0, 0.0), ("set", 1.0, 1.0)]);
        assert!(record.taken_over(&measured, None).is_err());
        let taken = record.taken_over(&measured, Some("new")).unwrap();
        let paths: Vec<&str> = taken.lines.iter().map(|line| line.path.as_str()).collect();
        assert_eq!(paths, ["get", "set"]);
    }

    #[test]
    fn what_shrank_is_recorded_without_a_note_and_says_still_why_it_grew_before() {
        let line = taken_over(8.0, 900.0, None).unwrap();
        assert_eq!(line, "call |        8.00 |   900 | spans");
    }

    #[test]
    fn what_grew_by_little_is_not_recorded_so_that_it_adds_up() {
        let line = taken_over(10.4, 1040.0, Some("creeping")).unwrap();
        assert_eq!(line, "call |       10.00 |  1000 | spans");
    }

    #[test]
    fn the_committed_record_has_every_path_and_no_other() {
        let record = Record::parse(include_str!("../../../allocations.txt")).unwrap();
        let recorded = record.lines.iter().map(|line| line.path.as_str());
        let paths = crate::paths::all();
        assert!(recorded.eq(paths.iter().map(|path| path.name)));
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_garbage_is_refused() {
        let record = Record::parse(RECORD).unwrap();
        assert_eq!(Record::parse(&record.to_string()).unwrap(), record);
        assert!(Record::parse(&format!("{RECORD}get | many | 3 | so")).is_err());
        assert!(Record::parse(&format!("{RECORD}get | 1")).is_err());
    }
}
