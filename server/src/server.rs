//! A whole server: joins the store, the function runtime and the network.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::command::CommandLimits;
use crate::config::{Config, DurabilitySetting};
use crate::function::{CallLimits, Ceilings, LogBounds, Seed, VersionBounds};
use crate::metrics::ServerPages;
use crate::net::{self, BindError, NetOptions, Purpose, Stopper, Tls, TlsError};
use crate::reload::{self, Reloader};
use crate::session::{Authority, Core, LoadError, Settings, Surroundings, load_modules, sweep};
use crate::store::embedded::disk::{Disk, RealDisk};
use crate::store::embedded::{
    EmbeddedOptions, EmbeddedSnapshot, EmbeddedStore, FolderError, SyncPolicy,
};
use crate::store::{Clock, Store, StoreError};
use crate::tokens::{self, TokensError};
use crate::transaction::WriteLimits;
use crate::udf::{Compilers, EngineError, EngineOptions, WasmRuntime};

/// Where compiled modules are kept, in the data folder. It may be deleted at any time.
pub const COMPILED_FOLDER: &str = "compiled";

/// The core that a server runs: the embedded store below, wasmtime beside.
pub type EmbeddedCore = Core<EmbeddedStore, WasmRuntime<EmbeddedSnapshot>>;

/// A server that listens, and does not serve yet.
pub struct Server {
    core: Arc<EmbeddedCore>,
    listener: TcpListener,
    address: SocketAddr,
    options: NetOptions,
    tls: Option<Arc<Tls>>,
    reloader: Reloader,
    metrics: Option<MetricsPort>,
}

/// Why a server does not start, or does not stop in order.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The function runtime.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The stored modules.
    #[error(transparent)]
    Modules(#[from] LoadError),
    /// The store, when it is closed.
    #[error("the store could not be closed in order: {0}")]
    Close(#[from] StoreError),
}

/// The wall clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        wall_ms()
    }
}

impl Server {
    /// Opens the folder, loads the modules and binds the address. Modules are compiled there: a program that has the server
    /// as a library can only give it a thread.
    ///
    /// # Errors
    /// Names what is in the way.
    pub async fn start(config: &Config, compilers: Compilers) -> Result<Self, ServerError> {
        Self::start_on(config, compilers, Arc::new(RealDisk)).await
    }

    /// The same, with the store's own files on another disk than the operating system's.
    ///
    /// # Errors
    /// Names what is in the way.
    pub async fn start_on(
        config: &Config,
        compilers: Compilers,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, ServerError> {
        let authority = tokens::authority(config)?;
        let is_guarded = matches!(authority, Authority::Tokens(_));
        let tls = load_tls(config)?.map(Arc::new);
        // The address before the folder: a second server on it should not touch that.
        let may_be_reached = is_guarded || config.no_auth;
        let listener = net::bind(&config.listen, Purpose::Clients, may_be_reached).await?;
        let address = listener.local_addr().map_err(|error| {
            BindError::Unresolved(config.listen.clone(), Purpose::Clients, error)
        })?;
        // Before the folder, too: a start that takes long is told there.
        let metrics = MetricsPort::open(config, is_guarded).await?;
        let core = Arc::new(open_core(config, compilers, disk)?);
        let modules = load_modules(&core).await?;
        let room = core.runtime.room();
        match room.is_cut {
            true => tracing::warn!("{room}"),
            false => tracing::info!("{room}"),
        }
        tracing::info!("tokens: {}", reload::tell(&authority));
        core.set_authority(authority);
        if is_guarded && tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                "without TLS, tokens and data cross the network as they are; set tls_cert and tls_key"
            );
        }
        if let Some(metrics) = &metrics {
            metrics.pages.started(Arc::clone(&core));
            tracing::info!(address = %metrics.address, "metrics");
        }
        tracing::info!(%address, data = %config.data.display(), modules, "ready");
        Ok(Self {
            reloader: Reloader::new(Arc::clone(&core), tls.clone(), config.clone()),
            tls,
            core,
            listener,
            address,
            options: net_options(config),
            metrics,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it tells metrics, if it does.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|metrics| metrics.address)
    }

    /// What takes over changed files while it serves.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until it is told to stop, finishes what runs, and makes everything durable.
    ///
    /// # Errors
    /// The store could not be closed in order.
    pub async fn run(
        self,
        stopping: tokio::sync::watch::Receiver<bool>,
    ) -> Result<(), ServerError> {
        if let Some(metrics) = &self.metrics {
            metrics.pages.runs_until(stopping.clone());
        }
        let serving = net::serve(
            self.listener,
            Arc::clone(&self.core),
            self.options,
            self.tls,
            stopping,
        );
        tokio::select! {
            () = serving => {}
            () = sweep(&self.core) => {}
        }
        self.core.store.close().await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The port for metrics, which is served until it is dropped.
struct MetricsPort {
    pages: Arc<ServerPages>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsPort {
    async fn open(config: &Config, is_guarded: bool) -> Result<Option<Self>, BindError> {
        if config.metrics.is_empty() {
            return Ok(None);
        }
        let may_be_reached = is_guarded || config.no_auth;
        let listener = net::bind(&config.metrics, Purpose::Metrics, may_be_reached).await?;
        let address = listener.local_addr().map_err(|error| {
            BindError::Unresolved(config.metrics.clone(), Purpose::Metrics, error)
        })?;
        let pages = Arc::new(ServerPages::default());
        let task = tokio::spawn(net::serve_pages(listener, Arc::clone(&pages) as _));
        Ok(Some(Self {
            pages,
            address,
            task,
        }))
    }
}

impl Drop for MetricsPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A stopper, and what [`Server::run`] takes.
#[must_use]
pub fn stopper() -> (Stopper, tokio::sync::watch::Receiver<bool>) {
    Stopper::new()
}

fn load_tls(config: &Config) -> Result<Option<Tls>, TlsError> {
    match config.tls_cert.as_os_str().is_empty() {
        true => Ok(None),
        false => Tls::load(&config.tls_cert, &config.tls_key).map(Some),
    }
}

/// How the function runtime is set up.
pub fn engine_options(config: &Config, ceilings: &Ceilings) -> EngineOptions {
    let idle = u64::from(config.max_instances) * u64::from(config.max_idle_instances_percent) / 100;
    EngineOptions {
        max_instances: config.max_instances,
        max_idle_instances: usize::try_from(idle).unwrap_or(usize::MAX),
        max_module_idle_instances: config.max_module_idle_instances,
        max: ceilings.max.clone(),
        stack_bytes: config.stack_bytes,
        compile_time: Duration::from_millis(config.compile_time_ms),
        compile_memory_bytes: config.compile_memory_bytes,
    }
}

fn open_core(
    config: &Config,
    compilers: Compilers,
    disk: Arc<dyn Disk>,
) -> Result<EmbeddedCore, ServerError> {
    let ceilings = ceilings(config);
    let runtime = WasmRuntime::new(&engine_options(config, &ceilings))?
        .compiling_in(compilers)
        .keeping_compiled_code(config.data.join(COMPILED_FOLDER));
    let mut id = [0; 16];
    id.copy_from_slice(&seed()[..16]);
    let store = EmbeddedStore::open(
        &config.data,
        id,
        disk,
        Box::new(SystemClock),
        store_options(config),
    )?;
    Ok(Core::new(
        store,
        runtime,
        settings(config, ceilings),
        surroundings(),
    ))
}

/// How the store is set up, from the configuration.
#[must_use]
pub fn store_options(config: &Config) -> EmbeddedOptions {
    EmbeddedOptions {
        sync: match config.durability {
            DurabilitySetting::Always => SyncPolicy::Always,
            DurabilitySetting::Interval(interval) => SyncPolicy::Interval(interval),
        },
        index_cache_bytes: config.sled_cache_bytes,
        cache_bytes: config.cache_bytes,
        max_history_bytes: config.max_history_bytes,
        max_snapshot_age: Duration::from_millis(config.max_snapshot_age_ms),
        max_unfolded_bytes: config.max_unfolded_bytes,
        fold_bytes: config.max_unfolded_bytes / 4,
        max_write_wait: Duration::from_millis(config.max_write_wait_ms),
        fold_log_bytes: config.fold_log_bytes,
        log_segment_bytes: config.log_segment_bytes,
        base_log_bytes: config.base_log_bytes,
        max_kept_log_bytes: config.max_kept_log_bytes,
        min_free_bytes: config.min_free_disk_bytes,
        ..EmbeddedOptions::default()
    }
}

/// The bounds of requests, from the configuration.
#[must_use]
pub fn settings(config: &Config, ceilings: Ceilings) -> Settings {
    Settings {
        command: CommandLimits {
            max_key_bytes: config.max_key_bytes,
            max_value_bytes: config.max_value_bytes,
            max_request_keys: config.max_request_keys,
            max_page_entries: config.max_page_entries,
            max_page_bytes: config.max_page_bytes,
        },
        max_frame_bytes: config.max_frame_bytes,
        max_module_bytes: config.max_module_bytes,
        max_modules: config.max_modules,
        versions: VersionBounds {
            count: config.max_module_versions,
            bytes: config.max_module_stored_bytes,
        },
        writes: WriteLimits {
            keys: config.call_write_keys,
            bytes: config.call_write_bytes,
        },
        max_reads: config.max_reads,
        ceilings,
        phase_cpu: Duration::from_millis(config.phase_cpu_ms),
        max_running: config.max_running_calls,
        max_module_waiting: config.max_module_waiting_calls,
        max_streams: config.max_streams,
        max_all_streams: config.max_all_streams,
        log: LogBounds {
            lines: config.max_guest_log_lines,
            bytes: config.max_guest_log_bytes,
            rate: config.max_guest_log_rate,
        },
        max_counted_functions: config.max_counted_functions,
        max_shared_attempts: config.max_shared_attempts,
        durability: config.durability.to_string(),
        syncs_always: config.durability == DurabilitySetting::Always,
    }
}

/// The limits of calls, from the configuration.
#[must_use]
pub fn ceilings(config: &Config) -> Ceilings {
    Ceilings {
        default: CallLimits {
            fuel: config.call_fuel,
            cpu: Duration::from_millis(config.call_cpu_ms),
            deadline: Duration::from_millis(config.call_deadline_ms),
            memory_bytes: config.call_memory_bytes,
            output_bytes: config.call_output_bytes,
            write_keys: config.call_write_keys,
            write_bytes: config.call_write_bytes,
            table_elements: config.call_table_elements,
            running_calls: config.module_running_calls,
        },
        max: CallLimits {
            fuel: config.max_call_fuel,
            cpu: Duration::from_millis(config.max_call_cpu_ms),
            deadline: Duration::from_millis(config.max_call_deadline_ms),
            memory_bytes: config.max_call_memory_bytes,
            output_bytes: config.max_call_output_bytes,
            write_keys: config.max_call_write_keys,
            write_bytes: config.max_call_write_bytes,
            table_elements: config.max_call_table_elements,
            running_calls: config.max_module_running_calls,
        },
    }
}

/// The real clock and real randomness.
#[must_use]
pub fn surroundings() -> Surroundings {
    Surroundings {
        now: Box::new(now),
        seed: Box::new(seed),
        wall_ms: Arc::new(wall_ms),
    }
}

pub(crate) fn net_options(config: &Config) -> NetOptions {
    NetOptions {
        max_connections: config.max_connections,
        max_frame_bytes: config.max_frame_bytes,
        max_unread_replies: config.max_unread_replies,
        max_unread_bytes: config.max_unread_bytes,
        max_buffered_bytes: config.max_buffered_bytes,
        idle_timeout: Duration::from_millis(config.idle_timeout_ms),
        greeting_timeout: Duration::from_millis(config.greeting_timeout_ms),
        frame_timeout: Duration::from_millis(config.frame_timeout_ms),
        write_timeout: Duration::from_millis(config.write_timeout_ms),
        watch_timeout: Duration::from_millis(config.watch_timeout_ms),
        watch_progress: Duration::from_millis(config.watch_progress_ms),
        stop_timeout: Duration::from_millis(config.stop_timeout_ms),
    }
}

/// Random bytes from a generator of each thread, which the operating system has seeded: a call should
/// not cost a system call.
fn seed() -> Seed {
    thread_local! {
        static RANDOM: RefCell<ChaCha20Rng> = RefCell::new(ChaCha20Rng::from_seed(system_seed()));
    }
    RANDOM.with_borrow_mut(|random| {
        let mut seed = Seed::default();
        random.fill_bytes(&mut seed);
        seed
    })
}

fn system_seed() -> Seed {
    let mut seed = Seed::default();
    getrandom::fill(&mut seed).expect("the operating system has random bytes");
    seed
}

#[expect(clippy::disallowed_methods, reason = "here time enters: deadlines")]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "here time enters: the store's clock"
)]
fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
