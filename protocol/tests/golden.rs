//! Golden frames: what is on the wire stays what it is.
//!
//! Each case is kept as a file in `golden/`. After an intended change, write them anew with
//! `UPDATE_GOLDEN=1 cargo test -p luge-protocol --test golden` and read the difference.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::annotate::annotate;
use common::cases;
use common::{frame, golden_path, parse_hex};
use luge_protocol::Command;

#[test]
fn every_golden_file_holds_what_the_code_encodes() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for case in cases::all() {
        let path = golden_path(&case.name);
        if update {
            fs::write(&path, annotate(&case.body)).expect("the folder can be written");
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {}.hex", case.name));
        assert_eq!(parse_hex(&text), frame(&case.body), "{}", case.name);
        assert_eq!(text, annotate(&case.body), "comments of {}", case.name);
    }
}

#[test]
fn every_golden_body_decodes_and_encodes_to_itself() {
    for case in cases::all() {
        assert_eq!(
            (case.recode)(&case.body).as_ref(),
            Ok(&case.body),
            "{}",
            case.name
        );
    }
}

#[test]
fn golden_requests_cover_every_command() {
    let covered: BTreeSet<&str> = cases::requests()
        .iter()
        .map(|(_, request)| request.command.name())
        .collect();
    assert_eq!(covered, Command::NAMES.iter().copied().collect());
}

#[test]
fn no_golden_file_is_without_a_case() {
    let names: BTreeSet<String> = cases::all()
        .into_iter()
        .map(|case| format!("{}.hex", case.name))
        .collect();
    let folder = golden_path("x");
    let files: BTreeSet<String> = fs::read_dir(folder.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, names);
}
