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
    assert_eq!(rows.len(), 23, "{rows:?}");
    for cells in rows {
        let setting = cells[1].trim_matches('`');
        assert_eq!(cells[2], shown(setting), "{setting}");
        let ceiling = format!("max_{setting}");
        if setting.starts_with("call_") || setting == "module_running_calls" {
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
            help = match *command {
                "token" => program(["token", words[1], "--help"]),
                command => program([command, "--help"]),
            };
        }
        let help = run(help).prints();
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(*flag), "{line}: {help}");
        }
    }
}

/// The rows of the tables of what survives what.
fn mishaps() -> Vec<&'static str> {
    let (_, rest) = README.split_once("\n## What survives what\n").unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.filter(|row| !row.contains("| shown by |")).collect()
}

#[test]
fn every_mishap_names_tests_that_exist() {
    let rows = mishaps();
    assert!(rows.len() >= 15, "{rows:?}");
    for row in rows {
        let shown = row.trim_end_matches('|').rsplit(" | ").next().unwrap();
        let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests")
                .join(file);
            let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{test}"));
            let is_test = |mark: &str, is_async: &str| {
                text.contains(&format!("#[{mark}]\n{is_async}fn {name}() {{"))
            };
            let exists = is_test("test", "") || is_test("tokio::test", "async ");
            assert!(exists, "there is no test {test}");
        }
    }
}

#[test]
fn the_mishaps_name_codes_and_settings_that_exist() {
    for row in mishaps() {
        let marked = row.split('`').skip(1).step_by(2);
        for word in marked.filter(|word| word.contains('_') && !word.contains("::")) {
            let is_setting = Config::FIELDS.iter().any(|field| field.name == word);
            assert!(is_setting || ErrorCode::from_name(word).is_some(), "{word}");
        }
    }
}

#[test]
fn the_levels_of_durability_that_are_shown_are_taken() {
    let levels: Vec<&str> = blocks("sh")
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| line.split_once(" --durability "))
        .map(|(_, rest)| rest.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(levels, ["everysec", "always", "everysec", "interval:100"]);
    for level in levels {
        let printed = run(program(["config", "--durability", level])).prints();
        assert!(printed.contains(&format!("\ndurability = \"{level}\"\n")));
    }
    run(program(["config", "--durability", "sometimes"])).refuses(&["sometimes", "everysec"]);
}

/// Carries out the block that shows how a backup is made and restored: as it stands, but for the
/// addresses, the folders, and the commands of `luge`, which its library does here.
#[tokio::test]
async fn the_backup_that_is_shown_comes_back() {
    let block = blocks("sh")
        .into_iter()
        .find(|block| block.contains(" backup "));
    let folder = tempfile::tempdir().unwrap();
    let below = |name: &str| folder.path().join(name.trim_start_matches("./"));
    let first = Served::start(&below("data"));
    let mut second = None;
    for line in block.unwrap().lines() {
        let (line, told) = line.split_once("  #").unwrap_or((line, ""));
        let line = line.trim().replace("cargo run --release --", "luge-server");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["luge", "set", key, value] => {
                first.client().await.set(key, value).await.unwrap();
            }
            ["luge", "backup", file] => {
                let mut copy = Vec::new();
                first.client().await.backup(&mut copy).await.unwrap();
                std::fs::write(below(file), copy).unwrap();
            }
            ["luge-server", "restore", file, data] => {
                let (file, data) = (below(file), below(data));
                let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
                run(program(["restore", file, data])).prints();
            }
            ["luge-server", "check", data] => {
                run(program(["check", below(data).to_str().unwrap()])).prints();
            }
            ["luge-server", "--data", data, "--listen", _] => {
                second = Some(Served::start(&below(data)));
            }
            [_, "luge", "get", key] => {
                let client = second.as_ref().unwrap().client().await;
                let value = client.get(key).await.unwrap().unwrap();
                assert_eq!(value, told.trim().as_bytes());
            }
            _ => panic!("{line}"),
        }
    }
    assert!(second.is_some());
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
