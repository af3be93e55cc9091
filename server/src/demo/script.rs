//! The demonstration as it is written down: headings, text, commands, and what they must answer.
//!
//! ```text
//!   # A heading
//!   Text, up to the next empty line.
//!   $ a command as a user types it
//!   its answer, up to the next empty line
//!   @restart
//! ```
//!
//! In an answer `…` stands for anything within a line, and a line of `…` alone for any number of lines.

/// One piece of the demonstration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A heading.
    Heading(&'a str),
    /// A paragraph.
    Text(Vec<&'a str>),
    /// A command and what it must answer.
    Command {
        line: &'a str,
        expected: Vec<&'a str>,
    },
    /// The server is stopped and started again.
    Restart,
}

/// Reads a script. Every text is one, so nothing can fail.
pub(crate) fn parse(text: &str) -> Vec<Piece<'_>> {
    text.split("\n\n")
        .flat_map(|block| parse_block(block.trim_matches('\n')))
        .collect()
}

/// A block is what stands between empty lines. A heading may stand on its own.
fn parse_block(block: &str) -> Option<Piece<'_>> {
    if block.is_empty() {
        return None;
    }
    let (first, rest) = block.split_once('\n').unwrap_or((block, ""));
    Some(if let Some(heading) = first.strip_prefix("# ") {
        Piece::Heading(heading)
    } else if let Some(line) = first.strip_prefix("$ ") {
        let expected = rest.lines().collect();
        Piece::Command { line, expected }
    } else if block == "@restart" {
        Piece::Restart
    } else {
        Piece::Text(block.lines().collect())
    })
}

/// The words of a command line: split at spaces, except between single quotes.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// What to show of an answer that is as expected: its lines, those that do not matter left out. None
/// where it is not as expected.
pub(crate) fn shown(expected: &[&str], found: &[&str]) -> Option<Vec<String>> {
    let Some((first, rest)) = expected.split_first() else {
        return found.is_empty().then(Vec::new);
    };
    if *first == "…" {
        return (0..=found.len()).find_map(|skipped| {
            let shown_rest = shown(rest, found.get(skipped..)?)?;
            Some(mark(skipped).into_iter().chain(shown_rest).collect())
        });
    }
    let (line, found) = found.split_first()?;
    if !matches(first, line) {
        return None;
    }
    let shown_rest = shown(rest, found)?;
    Some([(*line).to_owned()].into_iter().chain(shown_rest).collect())
}

fn mark(skipped: usize) -> Option<String> {
    (skipped > 0).then(|| "  …".to_owned())
}

/// Whether a line is as expected; `…` stands for anything.
fn matches(expected: &str, line: &str) -> bool {
    let Some((beginning, rest)) = expected.split_once('…') else {
        return line == expected;
    };
    let Some(mut line) = line.strip_prefix(beginning) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('…').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some((_, behind)) = line.split_once(piece) else {
            return false;
        };
        line = behind;
    }
    line.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_headings_text_commands_and_restarts() {
        let script = "# One\n\nTwo\nlines.\n\n$ luge get k\nv\n\n$ luge get x\n\n@restart\n";
        let command = |line, expected: &[&'static str]| Piece::Command {
            line,
            expected: expected.to_vec(),
        };
        let expected = vec![
            Piece::Heading("One"),
            Piece::Text(vec!["Two", "lines."]),
            command("luge get k", &["v"]),
            command("luge get x", &[]),
            Piece::Restart,
        ];
        assert_eq!(parse(script), expected);
    }

    #[test]
    fn words_are_split_at_spaces_and_kept_together_by_quotes() {
        assert_eq!(
            words("luge set  k '{\"a\": 1}'"),
            ["luge", "set", "k", "{\"a\": 1}"]
        );
        assert_eq!(words("luge set k ''"), ["luge", "set", "k", ""]);
    }

    #[test]
    fn what_does_not_matter_is_left_out_and_marked() {
        let found = ["error: trap: x", "  function: f", "  call: 7"];
        let lines = |lines: &[&str]| Some(lines.iter().map(|line| (*line).to_owned()).collect());
        assert_eq!(
            shown(&["error: …: x", "…"], &found),
            lines(&["error: trap: x", "  …"])
        );
        assert_eq!(
            shown(&["error: trap: x", "…", "  call: …"], &found),
            lines(&["error: trap: x", "  …", "  call: 7"])
        );
        assert_eq!(shown(&["a", "…"], &["a"]), lines(&["a"]));
    }

    #[test]
    fn an_answer_that_is_not_as_expected_is_none() {
        for (expected, found) in [
            (&["a"][..], &["b"][..]),
            (&["a"], &[]),
            (&[], &["a"]),
            (&["a…c"], &["ab"]),
            (&["…", "z"], &["x", "y"]),
        ] {
            assert_eq!(shown(expected, found), None, "{expected:?} {found:?}");
        }
    }
}
