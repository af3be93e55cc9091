//! The demonstration, as a user sees it.

use crate::support::{program, run};

#[test]
fn the_demonstration_shows_what_the_server_does_and_exits_0() {
    let transcript = run(program(["demo"])).prints();
    for part in [
        "\n1. Plain commands\n",
        "error: blocked: the value of user:1 lacks name\n",
        "\nanna@example.org\n",
        "\nHello, Anna!\n",
        "\n************1234\n",
        "\n{\"output\":\"HELLO\"}\n",
        "\n{\"from_balance\":70,\"to_balance\":35}\n",
        "\nbank:anna  70\nbank:ben  35\n",
        "  payload: {\"reason\":\"insufficient_funds\",\"balance\":70,\"amount\":1000}\n",
        "\"to\":\"1000000\",\"outcome\":\"blocked\"",
        "\nerror: fuel_exhausted: ",
        "\nerror: cpu_exhausted: ",
        "\nerror: memory_exceeded: ",
        "\nThe server was stopped and started again in ",
        " commands answered as they should, in ",
        "\n  cargo run --release\n",
    ] {
        assert!(
            transcript.contains(part),
            "{part:?} is not in\n{transcript}"
        );
    }
}

#[test]
fn the_demonstration_fits_into_80_columns_and_acts_upon_no_terminal() {
    let transcript = run(program(["demo"])).prints();
    for line in transcript.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn the_demonstration_removes_its_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = program(["demo"]);
    command.env("TMPDIR", temporary.path());
    run(command).prints();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_demonstration_that_can_t_go_on_says_why_and_fails() {
    let mut command = program(["demo"]);
    command.env("TMPDIR", "/nowhere");
    run(command).refuses(&["temporary folder", "/nowhere"]);
}
