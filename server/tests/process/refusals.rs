//! What stands in a server's way is told in one sentence that names it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Ended, Served, program, run};

/// Tries to serve a folder on a free port.
fn serve(folder: &Path) -> Ended {
    run(serve_command(folder))
}

fn serve_command(folder: &Path) -> Command {
    let folder = folder.to_str().unwrap();
    program(["serve", "--listen", "127.0.0.1:0", "--data", folder])
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = program(["serve", "--listen", &address]);
    command.arg("--data").arg(folder.path());
    run(command).refuses(&[&address, "in use", "--listen"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_that_another_server_has_open_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path());
    let path = folder.path().to_str().unwrap();
    serve(folder.path()).refuses(&[path, "in use by another server", "--data"]);
    server.stop("-TERM");
}

#[test]
fn a_file_in_place_of_the_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    serve(&file).refuses(&[file.to_str().unwrap()]);
    let below = file.join("data");
    serve(&below).refuses(&[below.to_str().unwrap()]);
}

#[test]
fn an_unreadable_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&data).is_ok() {
        eprintln!("not tested: this user may read everything");
        return;
    }
    serve(&data).refuses(&[data.to_str().unwrap(), "denied"]);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_folder_of_something_else_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    serve(folder.path()).refuses(&[folder.path().to_str().unwrap(), "no Luge data"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_of_a_newer_release_is_named_with_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    Served::start(folder.path()).stop("-TERM");
    let file = folder.path().join("FORMAT");
    let format = fs::read_to_string(&file).unwrap();
    fs::write(&file, format.replacen("luge-format ", "luge-format 99", 1)).unwrap();
    serve(folder.path()).refuses(&[folder.path().to_str().unwrap(), "99"]);
}

#[test]
fn an_address_that_others_can_reach_is_refused_and_the_reason_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(["serve", "--listen", "0.0.0.0:0"]);
    command.arg("--data").arg(folder.path());
    run(command).refuses(&["0.0.0.0:0", "luge-server token add", "--no-auth"]);
    let mut command = program(["serve", "--listen", "0.0.0.0:7999"]);
    command.arg("--data").arg(folder.path());
    run(command).refuses(&["0.0.0.0:7999", "127.0.0.1:7999 is served without either"]);
}

#[test]
fn an_address_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["nonsense", "127.0.0.1:http", "127.0.0.1:99999"] {
        let mut command = program(["serve", "--listen", address]);
        command.arg("--data").arg(folder.path());
        run(command).refuses(&[address, "of --listen", "such as 127.0.0.1:5843"]);
    }
    let mut command = program(["serve", "--listen", "127.0.0.1:0", "--metrics", "nonsense"]);
    command.arg("--data").arg(folder.path());
    run(command).refuses(&["nonsense", "of --metrics", "such as 127.0.0.1:9843"]);
}

#[test]
fn a_port_in_use_for_metrics_is_told_with_the_setting_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = program(["serve", "--listen", "127.0.0.1:0", "--metrics", &address]);
    command.arg("--data").arg(folder.path());
    run(command).refuses(&[&address, "in use", "--metrics"]);
}

#[test]
fn settings_before_a_command_are_refused_and_their_place_is_told() {
    let ended = run(program(["--data", "x", "token", "add", "anna"]));
    assert_eq!(ended.code, Some(2));
    let tip = "tip: settings stand behind the command, as in `luge-server token add NAME --role ROLE --data FOLDER`";
    assert!(ended.stderr.contains(tip), "{}", ended.stderr);
    let ended = run(program(["--data", "x", "--data", "y"]));
    assert!(!ended.stderr.contains("tip:"), "{}", ended.stderr);
}

#[test]
fn a_check_of_a_folder_that_a_server_has_open_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path());
    let path = folder.path().to_str().unwrap();
    let ended = run(program(["check", path]));
    ended.refuses(&[
        path,
        "in use by a server",
        "stop it, or check what a backup",
    ]);
    assert!(!ended.stderr.contains("--data"), "{}", ended.stderr);
    server.stop("-TERM");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_one() {
    let named = ["`max_conections`", "the nearest is `max_connections`"];
    run(program(["config", "--set", "max_conections=5"]))
        .refuses(&[&named[..], &["the flags"]].concat());

    let mut command = program(["config"]);
    command.env("LUGE_MAX_CONECTIONS", "5");
    run(command).refuses(&[&named[..], &["LUGE_"]].concat());

    let strange = run(program(["config", "--set", "nope=1"]));
    strange.refuses(&["`nope`", "the flags", "`luge-server config` lists them all"]);
    assert!(!strange.stderr.contains("nearest"), "{}", strange.stderr);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("luge.toml");
    fs::write(&file, "max_conections = 5\n").unwrap();
    let file = file.to_str().unwrap();
    run(program(["config", "--config", file])).refuses(&[&named[..], &[file]].concat());
}

#[test]
fn a_bad_value_is_named_wherever_it_stands() {
    run(program(["config", "--set", "max_connections=many"])).refuses(&["max_connections", "many"]);
    run(program(["config", "--set", "max_connections=-1"])).refuses(&["max_connections"]);
    run(program(["config", "--set", "max_connections=0"])).refuses(&["max_connections", "0"]);
    run(program(["config", "--set", "log_format=xml"])).refuses(&["log_format", "xml"]);

    let mut command = program(["config"]);
    command.env("LUGE_CALL_FUEL", "plenty");
    // Figment tells keys of the environment in capitals.
    let ended = run(command);
    ended.refuses(&["plenty"]);
    let stderr = ended.stderr.to_lowercase();
    assert!(stderr.contains("call_fuel"), "{stderr}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("luge.toml");
    for (text, named) in [
        ("call_fuel = \"plenty\"\n", "call_fuel"),
        ("no_auth = 1\n", "no_auth"),
        ("listen = \n", "line 1"),
    ] {
        fs::write(&file, text).unwrap();
        run(program(["config", "--config", file.to_str().unwrap()])).refuses(&[named]);
    }
}

#[test]
fn values_that_contradict_each_other_are_named_with_both() {
    run(program(["config", "--set", "max_frame_bytes=1024"]))
        .refuses(&["max_frame_bytes of 1024", "max_value_bytes"]);
}

#[test]
fn a_log_filter_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = serve_command(folder.path());
    command.args(["--log", "luge=loud"]);
    run(command).refuses(&["luge=loud"]);
    let mut command = serve_command(folder.path());
    command.args(["--log", "loud"]);
    run(command).refuses(&["loud", "the levels are"]);
}

#[test]
fn a_configuration_file_that_is_not_there_is_named() {
    run(program(["config", "--config", "/nowhere/luge.toml"])).refuses(&["/nowhere/luge.toml"]);
}
