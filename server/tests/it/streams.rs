//! Streams on sockets.

use luge_protocol::{
    Command, ErrorReply, NoArguments, Request, Response, Set, Stop, Watch, WatchEvent,
};

use crate::wire::{Peer, assert_serves, server};

const WATCH: u64 = 70;

fn watch(from: Option<u64>) -> Command<'static> {
    Command::Watch(Watch {
        prefix: "".into(),
        keys_only: None,
        from,
    })
}

fn set<'a>(key: &'a str, value: &'a [u8]) -> Command<'a> {
    Command::Set(Set {
        key: key.into(),
        value: value.into(),
        ttl_ms: None,
        keep_ttl: None,
        condition: None,
        return_old: None,
    })
}

impl Peer {
    fn send_as(&mut self, id: u64, command: Command<'_>) {
        self.send_body(&Request::new(id, command).encode());
    }

    /// The next response of the watch: an event, or how it ended.
    fn event(&mut self) -> Result<Option<WatchEvent>, ErrorReply> {
        let body = self.frame().expect("a response");
        let response: Response<Option<WatchEvent>> = Response::decode(&body).unwrap();
        assert_eq!(response.id, WATCH);
        response.outcome
    }

    /// Begins a watch; answers where it begins.
    fn watch(&mut self, from: Option<u64>) -> Result<u64, ErrorReply> {
        self.send_as(WATCH, watch(from));
        self.event().map(|event| event.unwrap().sequence)
    }
}

#[test]
fn a_slow_watcher_is_cut_off_and_goes_on_without_a_gap() {
    const COMMITS: u64 = 60;
    let server = server(|config| config.watch_timeout_ms = 1);
    let mut slow = Peer::greeted(server.address());
    assert_eq!(slow.watch(None), Ok(0));
    let mut writer = Peer::greeted(server.address());
    // Far more than sockets and queues hold, and none of it is read meanwhile.
    let value = vec![b'v'; 1 << 20];
    for _ in 0..COMMITS {
        writer.send(&set("k", &value));
        writer.frame().unwrap();
    }
    let mut next = 1;
    let mut cuts = 0;
    while next <= COMMITS {
        match slow.event() {
            Ok(Some(event)) if event.changes.is_empty() => {}
            Ok(Some(event)) => {
                assert_eq!(event.sequence, next);
                assert_eq!(event.changes[0].value.as_deref(), Some(&value[..]));
                next += 1;
            }
            Ok(None) => panic!("nobody stopped it"),
            Err(error) => {
                assert_eq!(error.0, "overloaded");
                assert_eq!(error.details().sequence, Some(next));
                cuts += 1;
                // The same id: its stream has ended.
                slow.send_as(WATCH, watch(Some(next)));
            }
        }
    }
    assert!(cuts > 0);
}

#[test]
fn a_stream_is_stopped_and_the_connection_goes_on() {
    let server = server(|_| {});
    let mut peer = Peer::greeted(server.address());
    assert_eq!(peer.watch(None), Ok(0));
    peer.send_as(1, set("k", b"v"));
    let mut ids = [peer.frame().unwrap(), peer.frame().unwrap()]
        .map(|body| luge_protocol::response_id(&body).unwrap());
    ids.sort_unstable();
    assert_eq!(ids, [1, WATCH]);
    for _ in 0..2 {
        peer.send_as(2, Command::Stop(Stop { id: WATCH }));
    }
    let ends: Vec<(u64, bool)> = (0..3)
        .map(|_| {
            let response: Response<()> = Response::decode(&peer.frame().unwrap()).unwrap();
            (response.id, response.outcome.is_ok())
        })
        .collect();
    assert_eq!(ends.iter().filter(|end| **end == (2, true)).count(), 2);
    assert!(ends.contains(&(WATCH, true)));
    peer.send_as(3, set("k", b"w"));
    let body = peer.frame().unwrap();
    assert_eq!(luge_protocol::response_id(&body), Ok(3));
}

#[test]
fn a_server_that_stops_tells_its_watchers_where_to_go_on() {
    let server = server(|_| {});
    let mut peer = Peer::greeted(server.address());
    assert_eq!(peer.watch(None), Ok(0));
    let mut writer = Peer::greeted(server.address());
    writer.send(&set("k", b"v"));
    writer.frame().unwrap();
    assert_eq!(peer.event().unwrap().unwrap().sequence, 1);
    let stop = std::thread::spawn(move || server.stop());
    let error = peer.event().unwrap_err();
    assert_eq!(error.to_string(), "unavailable: the server is stopping");
    assert_eq!(error.details().sequence, Some(2));
    assert!(peer.is_closed());
    stop.join().unwrap().unwrap();
}

#[test]
fn a_watcher_with_nothing_to_hear_is_told_so_and_is_not_idle() {
    let server = server(|config| {
        config.watch_progress_ms = 10;
        config.idle_timeout_ms = 30;
    });
    let mut peer = Peer::greeted(server.address());
    assert_eq!(peer.watch(None), Ok(0));
    for _ in 0..20 {
        let event = peer.event().unwrap().unwrap();
        assert_eq!((event.sequence, event.changes.len()), (0, 0));
    }
}

#[test]
fn a_connection_that_ends_gives_its_streams_places_back() {
    let server = server(|config| config.max_all_streams = 1);
    for command in [watch(None), Command::Backup(NoArguments {})] {
        let mut first = Peer::greeted(server.address());
        first.send_as(WATCH, command);
        first.frame().unwrap();
        drop(first);
        // As soon as the server has seen the end.
        let mut next = Peer::greeted(server.address());
        while let Err(error) = next.watch(None) {
            assert_eq!(
                error.to_string(),
                "overloaded: the limit of 1 streams of all connections is reached"
            );
        }
    }
}

#[test]
fn a_backup_that_nobody_reads_holds_nobody_up_and_is_closed() {
    let server = server(|config| {
        config.write_timeout_ms = 200;
        config.max_all_streams = 1;
    });
    let mut writer = Peer::greeted(server.address());
    let value = vec![b'v'; 1 << 20];
    for key in 0..24 {
        writer.send(&set(&key.to_string(), &value));
        writer.frame().unwrap();
    }
    let mut deaf = Peer::greeted(server.address());
    deaf.send_as(WATCH, Command::Backup(NoArguments {}));
    deaf.frame().unwrap();
    assert_serves(&server);
    while writer.watch(None).is_err() {}
}

#[test]
fn requests_are_answered_between_the_pieces_of_a_backup() {
    let server = server(|_| {});
    let mut peer = Peer::greeted(server.address());
    let value = vec![b'v'; 1 << 20];
    for key in 0..24 {
        peer.send(&set(&key.to_string(), &value));
        peer.frame().unwrap();
    }
    peer.send_as(WATCH, Command::Backup(NoArguments {}));
    peer.send_as(1, Command::Ping(NoArguments {}));
    let mut before_the_answer = 0;
    while luge_protocol::response_id(&peer.frame().unwrap()) == Ok(WATCH) {
        before_the_answer += 1;
    }
    let mut after_it = 1;
    while !luge_protocol::is_last_of_stream(&peer.frame().unwrap()) {
        after_it += 1;
    }
    assert!(
        after_it > before_the_answer,
        "{before_the_answer}, {after_it}"
    );
}

#[test]
fn a_connection_has_so_many_streams() {
    let server = server(|config| config.max_streams = 2);
    let mut peer = Peer::greeted(server.address());
    for id in [1, 2] {
        peer.send_as(id, watch(None));
        peer.frame().unwrap();
    }
    peer.send_as(3, watch(None));
    let (id, error) = peer.error();
    assert_eq!(
        (id, error.as_str()),
        (
            3,
            "overloaded: the limit of 2 streams of a connection is reached"
        )
    );
    assert_eq!(Peer::greeted(server.address()).watch(None), Ok(0));
}
