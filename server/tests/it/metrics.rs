use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use luge_protocol::{Command, Response};
use luge_server::net::BindError;
use luge_server::server::{Server, ServerError};
use luge_server::store::embedded::disk::RealDisk;
use luge_server::testing::{TestServer, start_on};
use luge_server::udf::Compilers;

use crate::support::disk::FailingDisk;
use crate::support::{parsed, runtime};
use crate::wire::{Peer, server};

fn with_metrics() -> TestServer {
    server(|config| config.metrics = "127.0.0.1:0".to_owned())
}

fn port(server: &TestServer) -> SocketAddr {
    server.metrics_address().unwrap()
}

/// What a page answers: the status line with the headers, and the body.
fn send(address: SocketAddr, request: &[u8]) -> (String, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(request).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn page(address: SocketAddr, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    send(address, request.as_bytes())
}

fn ask(peer: &mut Peer, command: Command<'_>) -> bool {
    peer.send(&command);
    let body = peer.frame().unwrap();
    let response: Response<serde::de::IgnoredAny> = Response::decode(&body).unwrap();
    response.outcome.is_ok()
}

/// The values by what they are called, labels included. Everything must be by the grammar of OpenMetrics.
fn values(text: &str) -> BTreeMap<String, f64> {
    let text = text.strip_suffix("# EOF\n").expect("an end");
    let mut kinds = BTreeMap::new();
    let mut values = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (word, name) = (words.next().unwrap(), words.next().unwrap());
            let rest = words.next().unwrap_or_else(|| panic!("{line}"));
            assert!(["HELP", "TYPE", "UNIT"].contains(&word), "{line}");
            if word == "UNIT" {
                assert!(name.ends_with(rest), "{line}");
            }
            if word == "TYPE" {
                let is_new = kinds.insert(name.to_owned(), rest.to_owned()).is_none();
                assert!(is_new, "{line}");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        check_labels(labels);
        let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
        assert!(
            name.starts_with("luge_") && name.chars().all(is_name),
            "{line}"
        );
        let endings: &[&str] = match kind(&kinds, name) {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            other => panic!("{other} in {line}"),
        };
        assert!(
            endings.iter().any(|ending| name.ends_with(ending)),
            "{line}"
        );
        let is_new = values
            .insert(series.to_owned(), value.parse().unwrap())
            .is_none();
        assert!(is_new, "twice: {line}");
    }
    values
}

fn kind<'a>(kinds: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    let endings = ["", "_total", "_bucket", "_count", "_sum"];
    let family = endings.iter().find_map(|ending| {
        let family = name.strip_suffix(ending)?;
        kinds.get(family)
    });
    family.unwrap_or_else(|| panic!("{name} has no type"))
}

/// Pairs such as `name="value"`, in which quotes, backslashes and newlines are escaped.
fn check_labels(labels: &str) {
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("{labels}"));
        assert!(!name.is_empty(), "{labels}");
        let mut is_escaped = false;
        let end = quoted.find(|it| {
            let is_end = it == '"' && !is_escaped;
            is_escaped = it == '\\' && !is_escaped;
            is_end
        });
        rest = &quoted[end.unwrap_or_else(|| panic!("{labels}")) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[test]
fn what_was_done_is_in_the_metrics() {
    let server = with_metrics();
    let mut peer = Peer::greeted(server.address());
    assert!(ask(&mut peer, parsed("module.push m one")));
    assert!(ask(&mut peer, parsed("call m.say")));
    assert!(!ask(&mut peer, parsed("call m.absent")));
    assert!(ask(&mut peer, parsed("set k v")));
    let (head, text) = page(port(&server), "/metrics");
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text"),
        "{head}"
    );
    let values = values(&text);
    let function = "module=\"m\",version=\"1\",function=\"say\",kind=\"procedure\"";
    for (series, expected) in [
        ("luge_requests_total{command=\"call\",result=\"ok\"}", 1.0),
        (
            "luge_requests_total{command=\"call\",result=\"not_found\"}",
            1.0,
        ),
        ("luge_requests_total{command=\"set\",result=\"ok\"}", 1.0),
        ("luge_connections", 1.0),
        ("luge_modules", 1.0),
        ("luge_running_calls", 0.0),
        ("luge_store_writable", 1.0),
        ("luge_hooks_added_seconds_count{command=\"call\"}", 2.0),
        (
            &format!("luge_function_cpu_seconds_count{{{function}}}"),
            1.0,
        ),
        (&format!("luge_function_fuel_count{{{function}}}"), 1.0),
        (&format!("luge_function_conflicts_total{{{function}}}"), 0.0),
        (
            &format!("luge_function_memory_max_bytes{{{function}}}"),
            65_536.0,
        ),
    ] {
        assert_eq!(values.get(series), Some(&expected), "{series} in\n{text}");
    }
    let of = |series: &str| *values.get(series).unwrap_or_else(|| panic!("no {series}"));
    assert!(of("luge_received_bytes_total") > 100.0);
    assert!(of("luge_sent_bytes_total") > 100.0);
    assert!(of("luge_store_sequence") >= 3.0);
    assert!(of("luge_store_synced_sequence") >= 3.0);
    assert!(of("luge_store_log_bytes") > 0.0);
    let infinite = format!("luge_function_cpu_seconds_bucket{{le=\"+Inf\",{function}}}");
    assert_eq!(of(&infinite), 1.0);
    assert!(of("luge_uptime_seconds") > 0.0);
}

#[test]
fn buckets_never_go_down() {
    let server = with_metrics();
    let mut peer = Peer::greeted(server.address());
    assert!(ask(&mut peer, parsed("module.push m one")));
    for _ in 0..20 {
        assert!(ask(&mut peer, parsed("call m.say")));
    }
    let (_, text) = page(port(&server), "/metrics");
    let buckets = text.lines().filter_map(|line| {
        let labels = line.strip_prefix("luge_function_fuel_bucket{")?;
        labels.contains("function=\"say\"").then_some(labels)
    });
    let counts: Vec<u64> = buckets
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert!(counts.len() > 10 && counts.is_sorted(), "{counts:?}");
    assert_eq!(counts.last(), Some(&20));
}

#[test]
fn the_other_pages_tell_life_and_readiness_and_there_is_nothing_else() {
    let server = with_metrics();
    let address = port(&server);
    for (path, status, body) in [
        ("/healthz", "200", "ok\n"),
        ("/readyz", "200", "ready\n"),
        ("/readyz?verbose", "200", "ready\n"),
        ("/", "404", "the pages are /metrics, /healthz and /readyz\n"),
    ] {
        let (head, found) = page(address, path);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert_eq!(found, body, "{path}");
    }
    let (head, _) = send(
        address,
        b"POST /metrics HTTP/1.1\r\nHost: l\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(
        head.starts_with("http/1.1 405") && head.contains("allow: get, head"),
        "{head}"
    );
    let (head, body) = send(address, b"HEAD /healthz HTTP/1.1\r\nHost: l\r\n\r\n");
    assert!(
        head.starts_with("http/1.1 200") && body.is_empty(),
        "{head}"
    );
}

#[test]
fn a_server_that_takes_no_writes_any_more_lives_and_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FailingDisk::new(Arc::new(RealDisk));
    let server = runtime().block_on(start_on(folder.path(), Arc::new(disk.clone()), |config| {
        config.metrics = "127.0.0.1:0".to_owned();
        config.min_free_disk_bytes = 1 << 20;
    }));
    let mut peer = Peer::greeted(server.address());
    assert!(ask(&mut peer, parsed("set k v")));
    disk.break_syncs();
    assert!(!ask(&mut peer, parsed("set k w")));
    let (head, why) = page(port(&server), "/readyz");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert!(why.contains("restart"), "{why}");
    assert!(
        page(port(&server), "/healthz")
            .0
            .starts_with("http/1.1 200")
    );
    let (_, text) = page(port(&server), "/metrics");
    assert_eq!(values(&text).get("luge_store_writable"), Some(&0.0));
    drop(server.stop());
}

#[test]
fn headers_that_are_too_long_are_refused_and_who_says_nothing_holds_nobody_up() {
    let server = with_metrics();
    let address = port(&server);
    let silent: Vec<TcpStream> = (0..7)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let long = format!("GET /healthz HTTP/1.1\r\nHost: {}", "x".repeat(100_000));
    let mut socket = TcpStream::connect(address).unwrap();
    // It may be cut off while it goes on.
    let _ = socket.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
        "{answer:?}"
    );
    assert!(page(address, "/healthz").0.starts_with("http/1.1 200"));
    drop(silent);
}

#[test]
fn an_address_that_others_can_reach_is_refused_unless_there_are_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let config = luge_server::config::Config {
        listen: "127.0.0.1:0".to_owned(),
        metrics: "0.0.0.0:0".to_owned(),
        data: folder.path().join("data"),
        ..Default::default()
    };
    let refused = runtime()
        .block_on(Server::start(&config, Compilers::Thread))
        .err()
        .unwrap();
    assert!(matches!(
        refused,
        ServerError::Bind(BindError::OpenMetrics(_))
    ));
    assert!(!config.data.exists());
}

#[test]
fn there_are_no_metrics_unless_they_are_asked_for() {
    assert_eq!(server(|_| {}).metrics_address(), None);
}
