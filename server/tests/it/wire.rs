use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use luge_protocol::{Command, Hello, NoArguments, Request, Response};
use luge_server::config::Config;
use luge_server::testing::{TestServer, start_with};

use crate::support::runtime;

/// A connection that speaks bytes.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(socket)
    }

    pub(crate) fn greeted(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address);
        peer.send(&Command::Hello(Hello {
            versions: vec![1],
            client: None,
            credentials: None,
        }));
        peer.frame().unwrap();
        peer
    }

    pub(crate) fn send(&mut self, command: &Command<'_>) {
        self.send_body(&Request::new(5, command.clone()).encode());
    }

    pub(crate) fn send_body(&mut self, body: &[u8]) {
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        self.0.write_all(&frame).unwrap();
    }

    /// The next frame's body, or nothing where the server has closed.
    pub(crate) fn frame(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; 4];
        self.0.read_exact(&mut header).ok()?;
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        self.0.read_exact(&mut body).ok()?;
        Some(body)
    }

    /// The next frame, which is an error: its id, code and message.
    pub(crate) fn error(&mut self) -> (u64, String) {
        let body = self.frame().expect("an answer");
        let response: Response<serde::de::IgnoredAny> = Response::decode(&body).unwrap();
        (response.id, response.outcome.unwrap_err().to_string())
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = self.0.read_to_end(&mut rest);
        rest.is_empty() && read.is_ok()
    }
}

pub(crate) fn server(change: impl FnOnce(&mut Config)) -> TestServer {
    runtime().block_on(start_with(change))
}

/// Whatever one peer does, the next one is served.
pub(crate) fn assert_serves(server: &TestServer) {
    let mut peer = Peer::greeted(server.address());
    peer.send(&Command::Ping(NoArguments {}));
    let response: Response<String> = Response::decode(&peer.frame().unwrap())
        .map(|it: Response<&str>| Response {
            id: it.id,
            outcome: it.outcome.map(str::to_owned),
        })
        .unwrap();
    assert_eq!(response.outcome.unwrap(), "pong");
}

#[test]
fn http_is_told_in_http() {
    let server = server(|_| {});
    let mut peer = Peer::connect(server.address());
    peer.0
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    peer.0.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("speaks the Luge protocol, not HTTP"),
        "{answer}"
    );
    assert_serves(&server);
}

#[test]
fn tls_is_told_by_an_alert() {
    let server = server(|_| {});
    let mut peer = Peer::connect(server.address());
    peer.0
        .write_all(&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3])
        .unwrap();
    let mut answer = Vec::new();
    peer.0.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [21, 3, 1, 0, 2, 2, 70]);
    assert_serves(&server);
}

#[test]
fn redis_is_told_in_its_own_words() {
    let server = server(|_| {});
    let mut peer = Peer::connect(server.address());
    peer.0.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
    let mut answer = String::new();
    peer.0.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("-ERR this is a Luge server"), "{answer}");
}

#[test]
fn a_declared_length_of_4_gib_is_refused_from_its_header() {
    let server = server(|_| {});
    let mut peer = Peer::greeted(server.address());
    peer.0.write_all(&[0xff, 0xff, 0xff, 0xff]).unwrap();
    let (id, error) = peer.error();
    assert_eq!(id, 0);
    assert_eq!(
        error,
        "too_large: frame of 4294967295 bytes exceeds the limit of 16777216"
    );
    assert!(peer.is_closed());
    assert_serves(&server);
}

#[test]
fn garbage_in_a_frame_is_answered_and_the_connection_goes_on() {
    let server = server(|_| {});
    let mut peer = Peer::greeted(server.address());
    let bodies: [&[u8]; 8] = [
        b"",
        b"\xc1",
        b"hello",
        b"\x93\x01\x02\x03",
        b"\x92\x01\x80",
        b"\x92\x01\x81\xa3get\x91\xc0",
        b"\x92\xff\x81\xa4ping\x90",
        b"\xdd\xff\xff\xff\xff",
    ];
    for body in bodies {
        peer.send_body(body);
        let (_, error) = peer.error();
        assert!(error.starts_with("bad_request: "), "{body:?}: {error}");
    }
    peer.send_body(b"\x92\x09\x81\xa4pong\x90");
    let (id, error) = peer.error();
    assert_eq!(id, 9);
    assert!(
        error.starts_with("bad_request: unknown command `pong`"),
        "{error}"
    );
    peer.send(&Command::Ping(NoArguments {}));
    assert!(peer.frame().is_some());
}

#[test]
fn nested_messagepack_is_refused_without_a_deep_stack() {
    let server = server(|_| {});
    let mut peer = Peer::greeted(server.address());
    for nest in [0x91_u8, 0x81] {
        let mut body = b"\x92\x07\x81\xa5batch\x91".to_vec();
        body.extend(std::iter::repeat_n(nest, 4 << 20));
        peer.send_body(&body);
        let (id, error) = peer.error();
        assert_eq!(id, 7);
        assert!(error.starts_with("bad_request: batch"), "{error}");
    }
    assert_serves(&server);
}

#[test]
fn the_first_request_is_hello() {
    let server = server(|_| {});
    let mut peer = Peer::connect(server.address());
    peer.send(&Command::Ping(NoArguments {}));
    let (id, error) = peer.error();
    assert_eq!(id, 5);
    assert_eq!(
        error,
        "bad_request: the first request of a connection is `hello`, and this is `ping`"
    );
    peer.send(&Command::Hello(Hello {
        versions: vec![7],
        client: None,
        credentials: None,
    }));
    let (_, error) = peer.error();
    assert_eq!(
        error,
        "unsupported: this server speaks version 1 of the protocol, and the client offers [7]"
    );
}

#[test]
fn connections_beyond_the_limit_are_told_so_and_closed() {
    let server = server(|config| config.max_connections = 2);
    let first = Peer::greeted(server.address());
    let _second = Peer::greeted(server.address());
    let mut third = Peer::connect(server.address());
    let (id, error) = third.error();
    assert_eq!(
        (id, error.as_str()),
        (0, "overloaded: the limit of 2 connections is reached")
    );
    assert!(third.is_closed());
    // A place that becomes free is given again, as soon as the server has seen the end.
    drop(first);
    loop {
        let mut peer = Peer::connect(server.address());
        peer.send(&Command::Hello(Hello {
            versions: vec![1],
            client: None,
            credentials: None,
        }));
        let body = peer.frame().unwrap();
        if luge_protocol::response_id(&body) == Ok(5) {
            break;
        }
    }
}

#[test]
fn a_frame_that_does_not_arrive_whole_is_not_waited_for() {
    let server = server(|config| config.frame_timeout_ms = 50);
    let mut peer = Peer::greeted(server.address());
    peer.0.write_all(&[0, 0, 0, 100, 0x92]).unwrap();
    let (id, error) = peer.error();
    assert_eq!(id, 0);
    assert_eq!(
        error,
        "deadline_exceeded: a frame did not arrive whole within 50ms; the connection is closed"
    );
    assert!(peer.is_closed());
}

#[test]
fn an_idle_connection_is_closed() {
    let server = server(|config| config.idle_timeout_ms = 50);
    let mut peer = Peer::greeted(server.address());
    let (_, error) = peer.error();
    assert_eq!(
        error,
        "deadline_exceeded: no request came within 50ms; the connection is closed"
    );
    assert!(peer.is_closed());
}

#[test]
fn a_client_that_never_reads_is_closed_and_holds_nobody_up() {
    let server = server(|config| config.write_timeout_ms = 200);
    let mut writer = Peer::greeted(server.address());
    let value = vec![b'x'; 1 << 20];
    writer.send(&Command::Set(luge_protocol::Set {
        key: "big".into(),
        value: (&value).into(),
        ttl_ms: None,
        keep_ttl: None,
        condition: None,
        return_old: None,
    }));
    writer.frame().unwrap();
    let mut deaf = Peer::greeted(server.address());
    deaf.0
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let get = Request::new(5, Command::Get(luge_protocol::Get { key: "big".into() })).encode();
    let mut frame = u32::try_from(get.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&get);
    // Asks for far more than buffers hold, and reads nothing, until the server has had enough.
    let requests = frame.repeat(1000);
    while deaf.0.write_all(&requests).is_ok() {}
    assert_serves(&server);
}

#[test]
fn requests_split_at_every_byte_are_answered_in_order() {
    let server = server(|_| {});
    let mut peer = Peer::connect(server.address());
    let mut bytes = Vec::new();
    let hello = Command::Hello(Hello {
        versions: vec![1],
        client: None,
        credentials: None,
    });
    for (id, command) in [
        (1, hello),
        (2, Command::Ping(NoArguments {})),
        (3, Command::Info(NoArguments {})),
    ] {
        let body = Request::new(id, command).encode();
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
    }
    peer.0.set_nodelay(true).unwrap();
    for byte in &bytes {
        peer.0.write_all(&[*byte]).unwrap();
    }
    let ids: Vec<u64> = (0..3)
        .map(|_| luge_protocol::response_id(&peer.frame().unwrap()).unwrap())
        .collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_peer_that_goes_away_in_the_middle_disturbs_nobody() {
    let server = server(|_| {});
    for cut in 0..20 {
        let mut peer = Peer::connect(server.address());
        let body = Request::new(1, Command::Ping(NoArguments {})).encode();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(body);
        peer.0.write_all(&frame[..cut.min(frame.len())]).unwrap();
    }
    assert_serves(&server);
    server.stop().unwrap();
}

#[test]
fn a_pipeline_is_answered_in_order_and_reads_what_it_wrote() {
    let server = server(|_| {});
    let mut peer = Peer::greeted(server.address());
    let mut bytes = Vec::new();
    for id in 0..500_u64 {
        let value = id.to_string();
        let command = match id % 2 {
            0 => Command::Set(luge_protocol::Set {
                key: "k".into(),
                value: (&value).into(),
                ttl_ms: None,
                keep_ttl: None,
                condition: None,
                return_old: None,
            }),
            _ => Command::Get(luge_protocol::Get { key: "k".into() }),
        };
        let body = Request::new(id, command).encode();
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
    }
    peer.0.write_all(&bytes).unwrap();
    for id in 0..500_u64 {
        let body = peer.frame().unwrap();
        assert_eq!(luge_protocol::response_id(&body), Ok(id));
        if id % 2 == 1 {
            let response: Response<luge_protocol::Found> = Response::decode(&body).unwrap();
            assert_eq!(response.outcome.unwrap().0, (id - 1).to_string());
        }
    }
}

#[test]
fn a_large_reply_that_does_not_fit_into_a_frame_is_refused_and_not_cut() {
    let server = server(|config| {
        config.max_frame_bytes = 64 << 10;
        config.max_value_bytes = 20 << 10;
        config.max_module_bytes = 50 << 10;
        config.max_page_bytes = 30 << 10;
        config.max_call_output_bytes = 50 << 10;
    });
    let mut peer = Peer::greeted(server.address());
    let value = vec![b'x'; 20 << 10];
    for key in ["a", "b", "c", "d"] {
        peer.send(&Command::Set(luge_protocol::Set {
            key: key.into(),
            value: (&value).into(),
            ttl_ms: None,
            keep_ttl: None,
            condition: None,
            return_old: None,
        }));
        peer.frame().unwrap();
    }
    peer.send(&Command::Mget(luge_protocol::Mget {
        keys: ["a", "b", "c", "d"].map(Into::into).to_vec(),
    }));
    let (id, error) = peer.error();
    assert_eq!(id, 5);
    assert!(
        error.starts_with("too_large: a reply of more than"),
        "{error}"
    );
    peer.send(&Command::Scan(luge_protocol::Scan::default()));
    let response: Response<luge_protocol::ScanReply> =
        Response::decode(&peer.frame().unwrap()).unwrap();
    // A page ends with the entry that reaches its limit, which a frame has room for.
    let page = response.outcome.unwrap();
    assert_eq!((page.0.len(), page.1.as_deref()), (2, Some(&b"b"[..])));
}
