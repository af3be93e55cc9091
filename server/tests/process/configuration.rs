//! What `config` prints, and which source wins.

use luge_server::config::Config;

use crate::support::{program, run};

#[test]
fn every_setting_is_printed_with_its_unit_and_its_reason() {
    let text = run(program(["config"])).prints();
    for field in Config::FIELDS {
        let value = format!("\n{} = ", field.name);
        let (above, _) = text.split_once(&value).unwrap_or_else(|| panic!("{value}"));
        let comment = above.rsplit("\n\n").next().unwrap();
        assert!(comment.starts_with('#'), "{comment}");
        assert!(comment.contains(field.reason), "{comment}");
        assert!(comment.contains(field.unit), "{comment}");
        assert!(!field.reason.is_empty());
    }
    let settings = text
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with('#'));
    assert_eq!(settings.count(), Config::FIELDS.len());
}

#[test]
fn what_is_printed_is_a_configuration_file_that_means_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("luge.toml");
    let data = r#"a "folder" with \ in it, a	tab and an ö"#;
    let printed = run(program([
        "config",
        "--data",
        data,
        "--no-auth",
        "--log",
        "info,luge_server=debug",
        "--set",
        "log_format=json",
        "--set",
        "max_connections=7",
        "--set",
        "max_call_fuel=18446744073709551",
    ]))
    .prints();
    std::fs::write(&file, &printed).unwrap();
    let again = run(program(["config", "--config", file.to_str().unwrap()])).prints();
    assert_eq!(again, printed);
    assert!(printed.contains("\nmax_connections = 7\n"));
    assert!(printed.contains("\nno_auth = true\n"));
}

#[test]
fn without_settings_the_defaults_are_printed() {
    let text = run(program(["config"])).prints();
    let config = Config::load(None, &[]);
    assert_eq!(config, Ok(Config::default()));
    for line in [
        "listen = \"127.0.0.1:5843\"",
        "data = \"./luge-data\"",
        "call_fuel = 10000000",
    ] {
        assert!(text.lines().any(|each| each == line), "{line}");
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("luge.toml");
    std::fs::write(
        &file,
        "max_connections = 11\ncall_cpu_ms = 12\ncall_fuel = 13\nlisten = \"127.0.0.1:14\"\n",
    )
    .unwrap();
    let mut command = program([
        "config",
        "--listen",
        "127.0.0.1:34",
        "--set",
        "max_connections=31",
    ]);
    command
        .env("LUGE_CONFIG", &file)
        .env("LUGE_LISTEN", "127.0.0.1:24")
        .env("LUGE_MAX_CONNECTIONS", "21")
        .env("LUGE_CALL_CPU_MS", "22");
    let text = run(command).prints();
    for line in [
        "listen = \"127.0.0.1:34\"",
        "max_connections = 31",
        "call_cpu_ms = 22",
        "call_fuel = 13",
        "call_deadline_ms = 1000",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} in\n{text}");
    }
}

#[test]
fn fewer_versions_than_are_never_dropped_are_refused() {
    let set = |value: &str| Config::load(None, &[("max_module_versions".into(), value.into())]);
    assert_eq!(set("3").unwrap().max_module_versions, 3);
    assert_eq!(
        set("2").unwrap_err().to_string(),
        "max_module_versions is 2, and must be at least 3: a new version, the active one and the one that a rollback returns to"
    );
}

#[test]
fn more_threads_than_a_machine_serves_by_are_refused() {
    let set = |value: &str| Config::load(None, &[("worker_threads".into(), value.into())]);
    assert_eq!(set("1024").unwrap().worker_threads, 1_024);
    assert_eq!(
        set("1025").unwrap_err().to_string(),
        "worker_threads is 1025, and must be at most 1024"
    );
}

#[test]
fn more_instances_than_there_are_addresses_for_are_refused() {
    let set = |value: &str| Config::load(None, &[("max_instances".into(), value.into())]);
    assert_eq!(set("28000").unwrap().max_instances, 28_000);
    assert_eq!(
        set("28001").unwrap_err().to_string(),
        "max_instances is 28001, and must be at most 28000: each reserves 4 GiB of a process' 128 TiB of addresses"
    );
}

/// Such a default was shown by `config`, and had no effect.
#[test]
fn a_default_above_its_ceiling_is_refused() {
    let set = |name: &str, value: &str| Config::load(None, &[(name.into(), value.into())]);
    assert_eq!(
        set("call_fuel", "10000000000").unwrap().call_fuel,
        10_000_000_000
    );
    for (name, value, told) in [
        (
            "call_fuel",
            "10000000001",
            "call_fuel is 10000000001, and must be at most max_call_fuel, which is 10000000000",
        ),
        (
            "max_call_cpu_ms",
            "49",
            "call_cpu_ms is 50, and must be at most max_call_cpu_ms, which is 49",
        ),
        (
            "module_running_calls",
            "129",
            "module_running_calls is 129, and must be at most max_module_running_calls, which is 128",
        ),
    ] {
        assert_eq!(set(name, value).unwrap_err().to_string(), told);
    }
}

/// `config` showed such an address as the one in force, and only a start said that it was none.
#[test]
fn what_can_be_no_address_is_refused() {
    let set = |name: &str, value: &str| Config::load(None, &[(name.into(), value.into())]);
    for address in ["localhost:0", "[::1]:7842", "example.org:65535"] {
        assert_eq!(set("listen", address).unwrap().listen, address);
    }
    assert_eq!(set("metrics", "").unwrap().metrics, "");
    for (name, address, usual) in [
        ("listen", "nonsense", 5843),
        ("listen", "", 5843),
        ("listen", ":7842", 5843),
        ("metrics", "127.0.0.1:65536", 9843),
    ] {
        assert_eq!(
            set(name, address).unwrap_err().to_string(),
            format!(
                "the address `{address}` of --{name} should be a host and a port, such as 127.0.0.1:{usual}"
            )
        );
    }
}
