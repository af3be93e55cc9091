use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use luge_server::config::Config;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Push, Talk, clock, open_memory};

/// What is logged, in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What a server with this level logs while a procedure logs a line and then traps.
fn logged(level: &str) -> String {
    let log = Log::default();
    // Where there is one subscriber alone, a thread of another test that is the first to meet a span
    // settles by itself, for the whole process, that nobody wants it.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    // One thread, so that its own subscriber sees everything.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let guest = Push::new(
        "m",
        r#"(module
        (import "luge_v1" "log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "hello")
        (func (export "run") (result i32)
            (call $log (i32.const 2) (i32.const 0) (i32.const 5)) (unreachable)))"#,
    );
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let config = Config {
                max_instances: 16,
                ..Config::default()
            };
            let clock = clock();
            let mut talk = Talk::new(open_memory(&clock), &config, clock).await;
            talk.push(&guest).await.unwrap();
            talk.request("call m.run").await.unwrap_err();
        });
    });
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn what_is_logged_of_a_request_says_which_one_and_what_ran() {
    let text = logged("debug");
    let line = |part: &str| {
        let found = text.lines().find(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no {part} in\n{text}"))
    };
    let function = "function{module=\"m\" version=1 function=\"run\" attempt=1}";
    let guest = line("hello");
    assert!(
        guest.contains("request{call=3 command=\"call\"}"),
        "{guest}"
    );
    assert!(guest.contains(function), "{guest}");
    let failed = line("a procedure failed");
    assert!(
        failed.contains("request{call=3 command=\"call\"}"),
        "{failed}"
    );
    // At the default level there are none. One behind the other: which levels are of interest is known to
    // a process as a whole.
    let text = logged("info");
    assert!(text.contains("hello"), "{text}");
    assert!(!text.contains("request{"), "{text}");
}
