//! The commands that the README shows exist, with their options, and `luge` has no others.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

use std::collections::BTreeSet;
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// What `luge COMMAND --help` prints, if there is such a command.
fn help(command: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_luge"))
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(text)
}

/// The words that stand for commands, in the list that a help text has.
fn listed(help: &str) -> BTreeSet<&str> {
    let (_, commands) = help.split_once("\nCommands:\n").unwrap();
    let commands = commands.split("\n\n").next().unwrap();
    commands
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.starts_with(|character: char| character.is_ascii_lowercase()))
        .collect()
}

/// The block that lists the commands.
fn synopsis() -> &'static str {
    let (_, rest) = README.split_once("\n## The command line\n").unwrap();
    rest.split("```").nth(1).unwrap()
}

/// The words of a text, without the marks around them.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|character: char| character.is_whitespace() || "[]|…".contains(character))
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn the_readme_lists_every_command_and_every_option() {
    let shown = words(synopsis());
    let commands = help(&[]).unwrap();
    let modules = help(&["module"]).unwrap();
    for command in listed(&commands).union(&listed(&modules)) {
        assert!(shown.contains(command), "{command} is not in the README");
    }
    for command in [
        &["set"][..],
        &["scan"],
        &["call"],
        &["watch"],
        &["backup"],
        &["module", "push"],
    ] {
        let help = help(command).unwrap();
        let options = help
            .lines()
            .filter_map(|line| line.trim().strip_prefix("--"))
            .filter_map(|line| line.split_whitespace().next());
        for option in options {
            let option = format!("--{option}");
            assert!(shown.contains(&*option), "{command:?} {option}");
        }
    }
}

#[test]
fn the_commands_that_the_readme_shows_exist_with_their_options() {
    let lines: Vec<&str> = README
        .lines()
        .filter_map(|line| line.trim_start_matches("$ ").strip_prefix("luge "))
        .filter(|line| !line.starts_with('['))
        .collect();
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let command = match words[0] {
            "module" => &words[..2],
            _ => &words[..1],
        };
        let help = help(command).unwrap_or_else(|| panic!("there is no command {line}"));
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{line}: {help}");
        }
    }
}
