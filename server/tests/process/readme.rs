//! What the README says, as far as it can be checked: its transcript, its hook, its limits, its links.
//! A test of the client checks the commands.

use std::path::Path;

use luge_client::{ErrorCode, PushOptions};
use luge_server::config::Config;
use serde_json::Value;

use crate::support::{Served, program, run};

const README: &str = include_str!("../../../README.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The blocks of code in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("\n```{language}\n");
    README
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split("\n```\n").next().unwrap())
        .collect()
}

/// The cells of the tables' rows that name a setting.
fn settings() -> Vec<Vec<&'static str>> {
    README
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .filter(|cells: &Vec<&str>| {
            let setting = cells.get(1).map_or("", |cell| cell.trim_matches('`'));
            Config::FIELDS.iter().any(|field| field.name == setting)
        })
        .collect()
}

/// A number as people read it, such as `10,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The default of a setting, as the README writes it.
fn shown(setting: &str) -> String {
    let config = serde_json::to_value(Config::default()).unwrap();
    let value = config.get(setting).and_then(Value::as_u64).unwrap();
    let field = Config::FIELDS.iter().find(|field| field.name == setting);
    match field.unwrap().unit {
        "bytes" if value.is_multiple_of(1 << 20) => format!("{} MiB", value >> 20),
        "bytes" => format!("{} KiB", value >> 10),
        "ms" if value.is_multiple_of(1000) => format!("{} s", value / 1000),
        "ms" => format!("{value} ms"),
        _ => grouped(value),
    }
}

#[test]
fn the_tables_of_limits_tell_the_defaults() {
    let rows = settings();
    assert_eq!(rows.len(), 17, "{rows:?}");
    for cells in rows {
        let setting = cells[1].trim_matches('`');
        assert_eq!(cells[2], shown(setting), "{setting}");
        let ceiling = format!("max_{setting}");
        if setting.starts_with("call_") {
            assert_eq!(cells[3], shown(&ceiling), "{ceiling}");
        }
        let codes = cells.last().unwrap().split('`').skip(1).step_by(2);
        for code in codes {
            assert!(ErrorCode::from_name(code).is_some(), "{code}");
        }
    }
}

#[test]
fn every_limit_of_a_call_is_in_the_table() {
    let rows = settings();
    for field in Config::FIELDS {
        let is_there = rows
            .iter()
            .any(|cells| cells[1].trim_matches('`') == field.name);
        assert!(
            !field.name.starts_with("call_") || is_there,
            "{}",
            field.name
        );
    }
}

/// The times and the releases of two runs differ.
fn without_time(line: &str) -> &str {
    match line
        .strip_suffix(" ms")
        .and_then(|line| line.rsplit_once("  "))
    {
        Some((command, _)) => command.trim_end(),
        None => line,
    }
}

#[test]
fn the_transcript_is_what_the_demonstration_prints() {
    let printed = run(program(["demo"])).prints();
    let printed = printed.lines().map(without_time).collect::<Vec<_>>();
    let printed = format!("\n{}\n", printed.join("\n"));
    let transcript = blocks("text")[0];
    assert!(transcript.starts_with("$ luge "), "{transcript}");
    for step in transcript.split("\n\n") {
        let step = step.lines().map(without_time).collect::<Vec<_>>();
        let step = format!("\n{}\n", step.join("\n"));
        assert!(printed.contains(&step), "{step}is not in{printed}");
    }
}

#[tokio::test]
async fn the_hook_in_text_form_refuses_as_the_readme_says() {
    let [text] = blocks("wat")[..] else {
        panic!("there is one module in text form");
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path());
    let client = server.client().await;
    client
        .module_push("short-names", text.as_bytes(), PushOptions::default())
        .await
        .unwrap();
    client.set("name:1", "Anna").await.unwrap();
    client.set("name:1", "x".repeat(20)).await.unwrap();
    client.set("other", "x".repeat(21)).await.unwrap();
    let refused = client.set("name:1", "Maximilian Alexander the Third").await;
    let refused = refused.unwrap_err().to_string();
    assert_eq!(refused, "blocked: a name has at most 20 bytes");
}

#[test]
fn the_commands_of_the_server_exist() {
    let servers = blocks("sh")
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| {
            line.split("  #")
                .next()
                .unwrap()
                .split_once("cargo run --release")
        })
        .map(|(_, rest)| rest.trim().trim_start_matches("-- "))
        .collect::<Vec<_>>();
    assert!(servers.len() >= 6, "{servers:?}");
    for line in servers {
        let words: Vec<&str> = line.split_whitespace().collect();
        let command = words.first().filter(|word| !word.starts_with('-'));
        let mut help = program(["--help"]);
        if let Some(command) = command {
            help = program([*command, "--help"]);
        }
        let help = run(help).prints();
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(*flag), "{line}: {help}");
        }
    }
}

#[test]
fn links_lead_to_files() {
    let targets = README
        .split("](")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap())
        .filter(|target| !target.starts_with("https://"));
    let mut missing: Vec<&str> = targets
        .filter(|target| !Path::new(ROOT).join(target).exists())
        .collect();
    missing.dedup();
    assert!(missing.is_empty(), "{missing:?}");
}
