//! `PROTOCOL.md` says what the code does: its tables, the order of arguments, its bytes.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{golden_path, parse_hex};
use luge_protocol::{Command, DEFAULT_PORT, ErrorCode, MAX_LIST_ELEMENTS, Request};

const PAGE: &str = include_str!("../PROTOCOL.md");

#[test]
fn the_table_of_commands_lists_every_command_in_the_code_s_order() {
    let names: Vec<String> = command_rows().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, Command::NAMES);
}

#[test]
fn the_table_of_commands_gives_every_argument_in_the_code_s_order() {
    for (name, arguments) in command_rows() {
        assert_eq!(plain(&arguments), argument_names(&name), "{name}");
    }
}

#[test]
fn arguments_are_marked_optional_exactly_where_the_code_lets_them_out() {
    for (name, arguments) in command_rows() {
        let required = arguments.iter().filter(|name| !name.ends_with('?')).count();
        for given in 0..=arguments.len() {
            let enough = given >= required;
            let missing = decode_with_nils(&name, given)
                .err()
                .is_some_and(|message| message.contains("invalid length"));
            assert_eq!(missing, !enough, "{name} with {given} arguments");
        }
    }
}

#[test]
fn the_table_of_operations_agrees_with_the_code() {
    let rows = rows_below("| operation | arguments | reply |");
    let names: Vec<&str> = rows.iter().map(|row| code(&row[0])).collect();
    let message = decode_batch_part("unknown", &[0x90]).unwrap_err();
    assert_eq!(quoted(&message[expected(&message)..]), names);
    for row in &rows {
        let message = decode_batch_part(code(&row[0]), b"\x81\xa3???\xc0").unwrap_err();
        let fields = quoted(&message[expected(&message)..]);
        assert_eq!(fields, plain(&list(&row[1])), "{}", row[0]);
    }
}

#[test]
fn the_table_of_limits_of_a_call_agrees_with_the_code() {
    let names: Vec<String> = rows_below("| limit | meaning |")
        .iter()
        .map(|row| code(&row[0]).to_owned())
        .collect();
    let body = b"\x92\x01\x81\xa4call\x94\xa1x\xc4\x00\xc0\x81\xa3???\xc0";
    let message = Request::decode(body).unwrap_err().message;
    assert_eq!(quoted(&message[expected(&message)..]), names);
}

#[test]
fn the_table_of_errors_lists_every_code_with_its_sentence() {
    let rows: Vec<(String, String)> = rows_below("| code | meaning |")
        .into_iter()
        .map(|row| (code(&row[0]).to_owned(), row[1].clone()))
        .collect();
    let codes: Vec<(String, String)> = ErrorCode::ALL
        .iter()
        .map(|code| (code.name().to_owned(), code.sentence().to_owned()))
        .collect();
    assert_eq!(rows, codes);
}

#[test]
fn error_codes_are_found_by_their_names_and_no_two_share_one() {
    let names: BTreeMap<&str, ErrorCode> = ErrorCode::ALL
        .iter()
        .map(|code| (code.name(), *code))
        .collect();
    assert_eq!(names.len(), ErrorCode::ALL.len());
    for (name, code) in names {
        assert_eq!(ErrorCode::from_name(name), Some(code));
    }
    assert_eq!(ErrorCode::from_name("from_a_newer_server"), None);
}

#[test]
fn every_example_of_bytes_is_the_golden_file_of_its_name() {
    let mut examples = 0;
    for block in PAGE.split("```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let file = fs::read_to_string(golden_path(name)).unwrap();
        assert_eq!(parse_hex(text), parse_hex(&file), "{name}");
        assert_eq!(text, file, "comments of {name}");
        examples += 1;
    }
    assert!(examples >= 8, "only {examples} examples were found");
}

#[test]
fn the_figures_of_the_page_are_those_of_the_code() {
    assert!(PAGE.contains(&format!("port {DEFAULT_PORT} ")));
    assert_eq!(MAX_LIST_ELEMENTS, 65_536);
    assert!(PAGE.contains("A list in a request has at most 65,536 elements"));
    assert!(PAGE.contains("nest at most 32 deep"));
}

fn command_rows() -> Vec<(String, Vec<String>)> {
    rows_below("| command | arguments | reply |")
        .into_iter()
        .map(|row| (code(&row[0]).to_owned(), list(&row[1])))
        .collect()
}

/// The cells of the table with this heading.
fn rows_below(heading: &str) -> Vec<Vec<String>> {
    let (_, rest) = PAGE.split_once(heading).expect("the page has this table");
    rest.lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

/// The text of a cell in backticks.
fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}

fn list(cell: &str) -> Vec<String> {
    code(cell)
        .trim_matches(['[', ']'])
        .split(", ")
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn plain(arguments: &[String]) -> Vec<String> {
    arguments
        .iter()
        .map(|name| name.trim_end_matches('?').to_owned())
        .collect()
}

/// The names that the code takes, in its order, as its own error message tells them.
fn argument_names(command: &str) -> Vec<String> {
    let body = request(command, b"\x81\xa3???\xc0");
    let message = Request::decode(&body).unwrap_err().message;
    match message.contains("no fields") {
        true => Vec::new(),
        false => quoted(&message[expected(&message)..]),
    }
}

fn decode_with_nils(command: &str, arguments: usize) -> Result<(), String> {
    let mut bytes = vec![0x90 | u8::try_from(arguments).unwrap()];
    bytes.extend_from_slice(&example_arguments(command)[..arguments].concat());
    Request::decode(&request(command, &bytes))
        .map(|_| ())
        .map_err(|error| error.message)
}

/// A value that each argument takes, in the order of the page; nil for optional ones.
fn example_arguments(command: &str) -> Vec<Vec<u8>> {
    let (_, arguments) = command_rows()
        .into_iter()
        .find(|(name, _)| name == command)
        .unwrap();
    arguments
        .iter()
        .map(|name| match name.as_str() {
            "key" | "prefix" | "name" | "procedure" => b"\xa1a".to_vec(),
            "value" | "wasm" => b"\xc4\x01a".to_vec(),
            "arguments" => b"\xc4\x00".to_vec(),
            "keys" | "versions" | "operations" => b"\x90".to_vec(),
            "ttl_ms" | "version" | "call" | "id" => b"\x01".to_vec(),
            optional if optional.ends_with('?') => b"\xc0".to_vec(),
            other => panic!("no example for {other}"),
        })
        .collect()
}

fn request(command: &str, arguments: &[u8]) -> Vec<u8> {
    let mut body = vec![0x92, 1, 0x81, 0xa0 | u8::try_from(command.len()).unwrap()];
    body.extend_from_slice(command.as_bytes());
    body.extend_from_slice(arguments);
    body
}

fn decode_batch_part(name: &str, arguments: &[u8]) -> Result<(), String> {
    let mut part = vec![0x91, 0x91, 0x81, 0xa0 | u8::try_from(name.len()).unwrap()];
    part.extend_from_slice(name.as_bytes());
    part.extend_from_slice(arguments);
    Request::decode(&request("batch", &part))
        .map(|_| ())
        .map_err(|error| error.message)
}

fn expected(message: &str) -> usize {
    message
        .find("expected")
        .expect("the message tells what was expected")
}

fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}
