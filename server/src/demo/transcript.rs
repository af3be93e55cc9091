//! What the demonstration prints: at most 80 columns, plain text, the times at the right edge.

use std::io::Write;
use std::time::Duration;

/// The columns of a line.
const WIDTH: usize = 80;

/// The columns of a command, so that its time stands beside it.
const COMMAND_WIDTH: usize = 68;

/// Prints a numbered heading.
pub(super) fn heading(number: usize, heading: &str) {
    let line = format!("{number}. {heading}");
    let rule = "-".repeat(columns(&line));
    print(&format!("\n\n{line}\n{rule}"));
}

/// Prints a paragraph as it is.
pub(super) fn paragraph(text: &str) {
    print(&format!("\n{text}"));
}

/// Prints a command with its time, and its answer below.
pub(super) fn command(line: &str, time: Option<Duration>, answer: &[String]) {
    let mut lines = wrap_command(line);
    if let (Some(last), Some(time)) = (lines.last_mut(), time) {
        let time = show_time(time);
        let gap = WIDTH.saturating_sub(columns(&time));
        *last = format!("{last:<gap$}{time}");
    }
    print(&format!("\n{}", lines.join("\n")));
    for line in answer {
        print(&wrap_answer(line));
    }
}

/// Where nobody reads on, as behind `head`, the demonstration goes on: its exit code still tells.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Such as `0.14 ms`.
pub(super) fn show_time(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// A command over as many lines as it takes, which a shell reads as one.
fn wrap_command(line: &str) -> Vec<String> {
    let mut lines = vec!["$".to_owned()];
    for piece in pieces(line) {
        let taken = lines.last().map_or(0, |last| columns(last));
        let is_full = taken + 1 + columns(&piece) > COMMAND_WIDTH - 2;
        if is_full && let Some(last) = lines.last_mut() {
            last.push_str(" \\");
            lines.push(" ".repeat(5));
        }
        if let Some(last) = lines.last_mut() {
            last.push(' ');
            last.push_str(&piece);
        }
    }
    lines
}

/// The words of a line with their quotes, an option and its value together.
fn pieces(line: &str) -> Vec<String> {
    let mut is_quoted = false;
    let words = line.split(|character| {
        is_quoted ^= character == '\'';
        character == ' ' && !is_quoted
    });
    let mut pieces: Vec<String> = vec![];
    for word in words {
        match pieces.last_mut() {
            Some(last) if last.starts_with("--") && !last.contains(' ') => {
                last.push(' ');
                last.push_str(word);
            }
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces
}

/// A long line goes on below, indented; it is cut behind a space or a comma where there is one.
fn wrap_answer(line: &str) -> String {
    let line = line.replace('\t', "  ");
    let mut wrapped = String::new();
    let mut rest = line.as_str();
    let mut width = WIDTH;
    while columns(rest) > width {
        let end = rest
            .char_indices()
            .nth(width)
            .map_or(rest.len(), |(at, _)| at);
        let (head, _) = rest.split_at(end);
        let cut = head.rfind([' ', ',']).filter(|cut| *cut > end / 2);
        let (line, behind) = rest.split_at(cut.map_or(end, |cut| cut + 1));
        wrapped.push_str(line.trim_end());
        wrapped.push_str("\n    ");
        rest = behind;
        width = WIDTH - 4;
    }
    wrapped + rest
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_goes_on_below_as_a_shell_reads_it() {
        let line = format!("luge set key '{}' --ttl 10s", "a b ".repeat(14));
        let expected = [
            "$ luge set key \\".to_owned(),
            format!("      '{}' \\", "a b ".repeat(14)),
            "      --ttl 10s".to_owned(),
        ];
        assert_eq!(wrap_command(&line), expected);
        assert_eq!(wrap_command("luge ping"), ["$ luge ping"]);
        let option = format!("luge set key {} --ttl 10s", "v".repeat(46));
        assert_eq!(wrap_command(&option).last().unwrap(), "      --ttl 10s");
    }

    #[test]
    fn a_long_answer_goes_on_below_within_the_width() {
        let widths = |line: &str| wrap_answer(line).lines().map(columns).collect::<Vec<_>>();
        assert_eq!(widths(&"x".repeat(160)), [80, 80, 8]);
        assert_eq!(widths(&"seven, ".repeat(20)), [76, 67]);
        assert_eq!(wrap_answer("key\tvalue"), "key  value");
    }
}
