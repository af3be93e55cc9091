//! What is printed: the figures beside the record, and what is to be done.

use crate::record::{Measured, Record, Verdict};

/// What was measured, with what was recorded beside it.
pub(crate) fn table(record: &Record, measured: &[Measured]) -> String {
    let head = ["path", "allocations", "bytes", "recorded", "bytes"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(measured.iter().map(|new| {
        let recorded = record.figures(new.path).map(|figures| figures.shown());
        let [allocations, bytes] = new.figures.shown();
        let [before, bytes_before] = recorded.unwrap_or_default();
        [
            new.path.to_owned(),
            allocations,
            bytes,
            before,
            bytes_before,
        ]
    }));
    aligned(&rows)
}

/// What the paths that are not as recorded ask for.
pub(crate) fn advice(verdicts: &[(&str, Verdict)]) -> Vec<String> {
    let told = verdicts.iter().filter_map(|(path, verdict)| {
        let told = match verdict {
            Verdict::Same => return None,
            Verdict::Grew => "allocates more than is recorded",
            Verdict::Shrank => "allocates less than is recorded: keep that with --record",
            Verdict::Unknown => "is not on record",
            Verdict::Missing => "is on record and was not measured: drop it with --record",
        };
        Some(format!("{path} {told}"))
    });
    let mut advice: Vec<String> = told.collect();
    let needs_note = verdicts.iter().any(|(_, verdict)| verdict.needs_note());
    if needs_note {
        let both = "mend what grew, or record it and say why: --record --note \"why\"";
        advice.push(both.to_owned());
    }
    advice
}

/// Columns under one another, parted by bars; those of numbers to the right.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|at| {
            rows.iter()
                .filter_map(|row| row.get(at))
                .map(String::len)
                .max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let is_number = cell.parse::<f64>().is_ok();
            match is_number {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            }
        });
        text += cells.collect::<Vec<_>>().join(" | ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lets_a_path_grow_is_told_which_and_what_to_do() {
        let told = advice(&[("call", Verdict::Grew), ("get", Verdict::Same)]);
        let expected = [
            "call allocates more than is recorded",
            "mend what grew, or record it and say why: --record --note \"why\"",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn paths_that_are_not_on_both_sides_are_named() {
        let told = advice(&[("set", Verdict::Unknown), ("call", Verdict::Missing)]);
        assert_eq!(told[0], "set is not on record");
        assert!(told[1].starts_with("call is on record"), "{told:?}");
    }

    #[test]
    fn columns_stand_under_one_another_and_numbers_at_the_right() {
        let rows = [["path", "bytes"], ["get", "0"], ["a", "12"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        let expected = "path | bytes\nget  |     0\na    |    12\n";
        assert_eq!(aligned(&rows), expected);
    }
}
