//! The server's demonstration answers as `luge` answers: its script, played with the real command line.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

#[path = "../../server/src/demo/script.rs"]
#[allow(unreachable_pub, reason = "this file is a module of the server, too")]
mod script;

use std::net::SocketAddr;
use std::process::Command;

use luge_server::testing::start_in;
use script::Piece;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const SCRIPT: &str = include_str!("../../server/src/demo/script.txt");

/// What a terminal shows, as the script writes it.
async fn run(address: SocketAddr, line: &str) -> String {
    let words = script::words(line);
    let mut command = Command::new(env!("CARGO_BIN_EXE_luge"));
    command
        .args(&words[1..])
        .current_dir(ROOT)
        .env("LUGE_ADDR", address.to_string());
    // In a thread of its own, so that this one is free for the test's timers.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    match (text.as_slice(), output.status.code()) {
        (b"", Some(1)) => "(nothing, and exit code 1)".to_owned(),
        _ => String::from_utf8(text).unwrap(),
    }
}

#[tokio::test]
async fn the_script_of_the_demonstration_holds_for_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start_in(folder.path(), |_| {}).await;
    let mut commands = 0;
    for piece in script::parse(SCRIPT) {
        match piece {
            Piece::Command { line, expected } if line.starts_with("luge ") => {
                let answer = run(server.address(), line).await;
                let found: Vec<&str> = answer.lines().collect();
                let shown = script::shown(&expected, &found);
                assert!(shown.is_some(), "{line}\n{answer}\n{expected:?}");
                commands += 1;
            }
            Piece::Restart => {
                server.stop().unwrap();
                server = start_in(folder.path(), |_| {}).await;
            }
            Piece::Command { .. } | Piece::Heading(_) | Piece::Text(_) => {}
        }
    }
    assert!(commands > 40, "only {commands} commands were found");
}
