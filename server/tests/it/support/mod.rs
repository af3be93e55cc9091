//! What tests share: conversations with a core without sockets, on both stores, with a clock that
//! stands still until it is told to move.

pub(crate) mod disk;
pub(crate) mod language;
mod speaker;

pub(crate) use language::{parse as parsed, render as rendered};
pub(crate) use speaker::speaker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use luge_protocol::{
    Command, ErrorReply, Grant, HookOverride, Isolation, LimitsRequest, ModulePush, Options, Reply,
    Request,
};
use luge_server::config::Config;
use luge_server::function::Identity;
use luge_server::server::{ceilings, engine_options, settings, surroundings};
use luge_server::session::{Authority, Core, Session, Surroundings, Token, load_modules};
use luge_server::store::embedded::disk::RealDisk;
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore};
use luge_server::store::{Clock, MemoryStore, Store};
use luge_server::udf::WasmRuntime;

/// A clock that tests move.
#[derive(Clone, Default)]
pub(crate) struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    pub(crate) fn at(ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(ms)))
    }

    pub(crate) fn set_back(&self, ms: u64) {
        self.0.fetch_sub(ms, Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) type TestCore<S> = Core<S, WasmRuntime<<S as Store>::Snapshot>>;

/// Where every test's clock begins.
pub(crate) const START_MS: u64 = 1_000_000;

/// The id of an embedded store that [`fold`] folds.
const FOLDED: [u8; 16] = [9; 16];

/// Runs a history on the memory store, on the embedded one, and on one that keeps nothing in memory that
/// it can do without.
macro_rules! on_both_stores {
    ($name:ident, |$store:ident, $clock:ident| $body:block) => {
        #[test]
        fn $name() {
            async fn history<S: luge_server::store::Store>(
                $store: &S,
                $clock: &crate::support::ManualClock,
            ) $body
            let runtime = crate::support::runtime();
            let clock = crate::support::clock();
            runtime.block_on(history(&crate::support::open_memory(&clock), &clock));
            for open in [crate::support::open_embedded, crate::support::open_folded] {
                let clock = crate::support::clock();
                let folder = tempfile::tempdir().unwrap();
                let embedded = open(folder.path(), clock.clone());
                runtime.block_on(async {
                    history(&embedded, &clock).await;
                    luge_server::store::Store::close(&embedded).await.unwrap();
                });
            }
        }
    };
}
pub(crate) use on_both_stores;

/// A module as a test pushes it.
#[derive(Clone, Default)]
pub(crate) struct Push {
    pub(crate) name: &'static str,
    /// Text, unless there is a binary.
    pub(crate) wat: String,
    pub(crate) wasm: Option<Vec<u8>>,
    pub(crate) config: Option<BTreeMap<String, String>>,
    pub(crate) limits: Option<LimitsRequest>,
    pub(crate) overrides: Option<Vec<HookOverride<'static>>>,
    pub(crate) grant: Option<Grant>,
    pub(crate) isolation: Option<Isolation>,
}

impl Push {
    pub(crate) fn new(name: &'static str, wat: impl Into<String>) -> Self {
        Self {
            name,
            wat: wat.into(),
            ..Self::default()
        }
    }
}

/// Runs a transcript on the memory store and on the embedded one: both must answer the same.
pub(crate) fn check(modules: &[Push], transcript: &str) {
    check_with(modules, |_| {}, transcript);
}

/// The same, with the configuration changed.
pub(crate) fn check_with(modules: &[Push], change: impl Fn(&mut Config), transcript: &str) {
    let mut config = Config {
        max_instances: 64,
        ..Config::default()
    };
    change(&mut config);
    let runtime = runtime();
    let clock = ManualClock::at(START_MS);
    let memory = MemoryStore::new([1; 16], Box::new(clock.clone()));
    runtime.block_on(async {
        Talk::new(memory, &config, clock)
            .await
            .run("memory", modules, transcript)
            .await;
    });
    let clock = ManualClock::at(START_MS);
    let folder = tempfile::tempdir().unwrap();
    let sled = open_embedded(folder.path(), clock.clone());
    runtime.block_on(async {
        Talk::new(sled, &config, clock)
            .await
            .run("embedded", modules, transcript)
            .await;
    });
}

/// Whether an answer is as expected; `…` stands for anything.
fn matches(expected: &str, answer: &str) -> bool {
    let Some((beginning, rest)) = expected.split_once('…') else {
        return answer == expected;
    };
    let Some(mut answer) = answer.strip_prefix(beginning) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('…').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some((_, behind)) = answer.split_once(piece) else {
            return false;
        };
        answer = behind;
    }
    answer.ends_with(end)
}

/// Why a push is refused.
pub(crate) fn refused(push: &Push) -> String {
    let clock = ManualClock::at(START_MS);
    let store = MemoryStore::new([1; 16], Box::new(clock.clone()));
    let config = Config {
        max_instances: 16,
        ..Config::default()
    };
    runtime().block_on(async {
        let outcome = Talk::new(store, &config, clock).await.push(push).await;
        outcome.expect_err("the module is refused").to_string()
    })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Small enough that tests meet the bounds.
pub(crate) fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        index_cache_bytes: 8 << 20,
        cache_bytes: 4 << 20,
        log_segment_bytes: 1 << 20,
        min_free_bytes: 0,
        ..EmbeddedOptions::default()
    }
}

pub(crate) fn open_embedded(folder: &std::path::Path, clock: ManualClock) -> EmbeddedStore {
    let disk = Arc::new(RealDisk);
    EmbeddedStore::open(folder, [1; 16], disk, Box::new(clock), options()).unwrap()
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::at(START_MS)
}

pub(crate) fn open_memory(clock: &ManualClock) -> MemoryStore {
    MemoryStore::new([1; 16], Box::new(clock.clone()))
}

/// A store that reads all that [`fold`] folded from the index.
pub(crate) fn open_folded(folder: &std::path::Path, clock: ManualClock) -> EmbeddedStore {
    let options = EmbeddedOptions {
        cache_bytes: 0,
        ..options()
    };
    let disk = Arc::new(RealDisk);
    EmbeddedStore::open(folder, FOLDED, disk, Box::new(clock), options).unwrap()
}

/// Has everything folded, in a store that [`open_folded`] opened.
pub(crate) async fn fold<S: Store>(store: &S) {
    let store: &dyn std::any::Any = store;
    let embedded = store.downcast_ref::<EmbeddedStore>();
    if let Some(store) = embedded.filter(|store| store.id() == FOLDED) {
        store.folded().await.unwrap();
    }
}

/// Copies a folder: of an open store it is what a kill would leave.
pub(crate) fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_dir() {
            copy_folder(&file.path(), &to.join(file.file_name()));
        } else {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

pub(crate) fn core<S: Store>(store: S, config: &Config) -> TestCore<S> {
    let ceilings = ceilings(config);
    let runtime = WasmRuntime::new(&engine_options(config, &ceilings)).unwrap();
    let surroundings = Surroundings {
        wall_ms: Arc::new(|| START_MS),
        ..surroundings()
    };
    Core::new(store, runtime, settings(config, ceilings), surroundings)
}

pub(crate) type TestSession<S> = Session<S, WasmRuntime<<S as Store>::Snapshot>>;

/// Sends one request, greeting first where it was not done yet.
pub(crate) async fn ask<S: Store>(
    session: &mut TestSession<S>,
    line: &str,
) -> Result<Reply, ErrorReply> {
    for line in ["hello", line] {
        let body = Request::new(1, language::parse(line)).encode();
        let outcome = session.handle(&body, now()).await.response.outcome;
        if line != "hello" {
            return outcome;
        }
    }
    unreachable!("the second line is answered")
}

/// The token of `name=role`, which is `token-of-NAME`.
fn token(entry: &str) -> Token {
    let (name, role) = entry.split_once('=').unwrap();
    Token {
        name: name.to_owned(),
        role: role.parse().unwrap(),
        hash: Token::hash_of(&format!("token-of-{name}")),
    }
}

/// A core and the conversations with it.
pub(crate) struct Talk<S: Store> {
    pub(crate) core: Arc<TestCore<S>>,
    clock: ManualClock,
    has_tokens: bool,
    sessions: BTreeMap<String, Session<S, WasmRuntime<S::Snapshot>>>,
}

impl<S: Store> Talk<S> {
    pub(crate) async fn new(store: S, config: &Config, clock: ManualClock) -> Self {
        let core = Arc::new(core(store, config));
        load_modules(&core).await.unwrap();
        Self {
            core,
            clock,
            has_tokens: false,
            sessions: BTreeMap::new(),
        }
    }

    /// Puts tokens in force, such as `anna=data root=admin`; `none` makes the server an open one.
    pub(crate) fn set_tokens(&mut self, names: &str) {
        self.has_tokens = names.trim() != "none";
        let authority = match self.has_tokens {
            true => Authority::Tokens(names.split_whitespace().map(token).collect()),
            false => Authority::Open,
        };
        self.core.set_authority(authority);
    }

    /// Pushes the modules, and goes through the transcript.
    pub(crate) async fn run(&mut self, store: &str, modules: &[Push], transcript: &str) {
        for push in modules {
            if let Err(error) = self.push(push).await {
                panic!("the module {} is refused: {error}", push.name);
            }
        }
        let mut expected = String::new();
        let mut found = String::new();
        let mut answer: Option<String> = None;
        for line in transcript
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            if let Some(names) = line.strip_prefix('!') {
                self.set_tokens(names);
                continue;
            }
            if let Some(ms) = line.strip_prefix('~') {
                self.clock
                    .advance(ms.trim().trim_end_matches("ms").parse().unwrap());
                continue;
            }
            if let Some((who, request)) =
                line.split_once("> ").filter(|(who, _)| !who.contains(' '))
            {
                found += &format!("{line}\n");
                expected += &format!("{line}\n");
                let command = language::parse(request);
                let outcome = self.ask(who, command, Options::default()).await;
                answer = Some(language::render(outcome));
                continue;
            }
            let answer = answer
                .take()
                .unwrap_or_else(|| panic!("{line:?} answers nothing"));
            let is_same = matches(line, &answer);
            expected += &format!("{line}\n");
            found += &format!("{}\n", if is_same { line } else { &answer });
        }
        assert!(
            expected == found,
            "on the {store} store\n--- expected\n{expected}\n--- found\n{found}"
        );
    }

    pub(crate) async fn push(&mut self, push: &Push) -> Result<Reply, ErrorReply> {
        if let Some(wasm) = &push.wasm {
            return self.push_binary(push, wasm).await;
        }
        let wasm =
            wat::parse_str(&push.wat).unwrap_or_else(|error| panic!("{}: {error}", push.name));
        self.push_binary(push, &wasm).await
    }

    pub(crate) async fn push_binary(
        &mut self,
        push: &Push,
        wasm: &[u8],
    ) -> Result<Reply, ErrorReply> {
        let command = Command::ModulePush(Box::new(ModulePush {
            name: push.name.into(),
            wasm: wasm.into(),
            config: push.config.clone(),
            limits: push.limits.clone(),
            overrides: push.overrides.clone(),
            inactive: None,
            dry_run: None,
            grant: push.grant.clone(),
            isolation: push.isolation,
        }));
        self.ask("", command, Options::default()).await
    }

    /// Sends one request as a transcript writes it.
    pub(crate) async fn request(&mut self, line: &str) -> Result<Reply, ErrorReply> {
        self.ask("", language::parse(line), Options::default())
            .await
    }

    /// A session of its own, greeted.
    pub(crate) fn session(&self) -> TestSession<S> {
        let identity = Identity {
            peer: "127.0.0.1".to_owned(),
            ..Identity::default()
        };
        Session::new(Arc::clone(&self.core), identity)
    }

    /// Sends one request on a named session and waits until its answer may leave.
    pub(crate) async fn ask(
        &mut self,
        who: &str,
        command: Command<'_>,
        options: Options,
    ) -> Result<Reply, ErrorReply> {
        // Who does not begin by saying hello says it here, with the token of the name if there are any.
        let is_hello = matches!(command, Command::Hello(_));
        if !self.sessions.contains_key(who) {
            let connection = self.sessions.len() as u64 + 1;
            let identity = Identity {
                connection,
                peer: "127.0.0.1".to_owned(),
                client: None,
                user: None,
            };
            let mut session = Session::new(Arc::clone(&self.core), identity);
            if !is_hello {
                let token = format!("hello --token token-of-{who}");
                let hello = if self.has_tokens { &token } else { "hello" };
                let body = Request::new(1, language::parse(hello)).encode();
                session.handle(&body, now()).await.response.outcome.unwrap();
            }
            self.sessions.insert(who.to_owned(), session);
        }
        let session = self.sessions.get_mut(who).unwrap();
        let body = Request {
            id: 7,
            command,
            options,
        }
        .encode();
        let answer = session.handle(&body, now()).await;
        self.core.store.acked(answer.gate).await.unwrap();
        answer.response.outcome
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests stand where the network does"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
