//! Where binaries are compiled: in a process of its own, which can be killed, or in a thread.
//!
//! Nothing stops Cranelift but the end of its process, and what it takes for a module is bounded by
//! nothing but the module. So the server starts its own program again for each binary:
//!
//! ```text
//!   server                          luge-server compile
//!     │ the order, then the binary      │ bounds itself: memory, cpu time, niceness
//!     ├───────── stdin ────────────────▶│
//!     │◀──────── stdout ────────────────┤ the compiled code, or why there is none
//!     │ reads it, or kills it           │ exit code 0, or REFUSED
//! ```
//!
//! The thread is for who has the server as a library, whose own program can't be started like that.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use wasmtime::{Engine, Module};

use super::engine::{self, EngineOptions};
use super::{module, prepare, structure, trusted};

/// The stack of the thread that compiles. Cranelift recurses on the nesting of a function.
const STACK_BYTES: usize = 64 << 20;

/// The most compiled code that is taken for one binary: one of the largest size compiles to less.
pub(super) const MAX_CODE_BYTES: u64 = 256 << 20;

/// How much of what a compiler says is read: a reason is a sentence or two.
const MAX_WORD_BYTES: u64 = 16 << 10;

/// What a compiler takes of a processor beside requests, which go first.
const NICENESS: i32 = 10;

/// The exit code of a compiler that says on its output why it compiled nothing.
const REFUSED: u8 = 3;

/// Where binaries are compiled.
#[derive(Clone, Debug)]
pub enum Compilers {
    /// In a thread, which nothing can stop.
    Thread,
    /// In a process of this program, started with the argument `compile`.
    Process(PathBuf),
}

impl Compilers {
    /// A process of the program that runs, which must be `luge-server`.
    ///
    /// # Errors
    /// The operating system does not tell which program that is.
    pub fn own_program() -> std::io::Result<Self> {
        // On Linux it is that very program, also once the file has been replaced by a newer one.
        let own = Path::new("/proc/self/exe");
        match own.exists() {
            true => Ok(Self::Process(own.to_owned())),
            false => std::env::current_exe().map(Self::Process),
        }
    }
}

/// Compiles one binary at a time, so that pushes leave the other cores to requests.
pub(super) struct Compiler {
    place: Compilers,
    turn: Arc<Semaphore>,
    order: Order,
}

/// What was compiled, with the form of it that can be kept.
pub(super) struct Output {
    pub(super) module: Module,
    pub(super) code: Vec<u8>,
}

impl Compiler {
    pub(super) fn new(place: Compilers, options: &EngineOptions) -> Self {
        Self {
            place,
            turn: Arc::new(Semaphore::new(1)),
            order: Order {
                time: options.compile_time,
                heap_bytes: options.compile_memory_bytes,
            },
        }
    }

    pub(super) fn move_to(&mut self, place: Compilers) {
        self.place = place;
    }

    /// Compiles a binary that is no larger than a module may be.
    ///
    /// # Errors
    /// Why there is nothing to run, as it is told to who pushed it.
    pub(super) async fn compile(
        &self,
        engine: &Engine,
        wasm: &Arc<[u8]>,
    ) -> Result<Output, String> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|error| error.to_string())?;
        match &self.place {
            Compilers::Thread => in_thread(engine.clone(), Arc::clone(wasm), turn).await,
            Compilers::Process(program) => {
                let checked = Arc::clone(wasm);
                blocking(move || structure::check(&checked)).await?;
                let code = self.in_process(program, wasm).await?;
                let engine = engine.clone();
                blocking(move || {
                    let module = trusted::fresh(&engine, &code).map_err(|error| told(&error))?;
                    let code = code.0;
                    Ok(Output { module, code })
                })
                .await
            }
        }
    }

    async fn in_process(&self, program: &Path, wasm: &[u8]) -> Result<OwnCode, String> {
        let started = Command::new(program)
            .arg("compile")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let child = started.map_err(|error| format!("no process to compile in: {error}"))?;
        let talk = self.order.talk(child, wasm);
        let (status, answer, complaint) = match timeout(self.order.time, talk).await {
            Ok(talked) => talked.map_err(|error| format!("the compiler can't be read: {error}"))?,
            Err(_) => return Err(self.order.too_long()),
        };
        if answer.len() as u64 > MAX_CODE_BYTES {
            return Err(format!(
                "its compiled code exceeds the limit of {MAX_CODE_BYTES} bytes"
            ));
        }
        const REFUSED_STATUS: Option<i32> = Some(REFUSED as i32);
        match status.code() {
            Some(0) => Ok(OwnCode(answer)),
            REFUSED_STATUS => Err(String::from_utf8_lossy(&answer).into_owned()),
            _ => Err(self.order.died(status, &complaint)),
        }
    }
}

/// Compiled code that a process of this program wrote into a pipe that only the server reads.
pub(super) struct OwnCode(Vec<u8>);

impl OwnCode {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

async fn in_thread(
    engine: Engine,
    wasm: Arc<[u8]>,
    turn: OwnedSemaphorePermit,
) -> Result<Output, String> {
    let (answer, compiled) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("luge-compiler".to_owned())
        .stack_size(STACK_BYTES);
    // The thread has the turn: it goes on also where nobody waits for it any more.
    let work = move || {
        let _turn = turn;
        let compiled = structure::check(&wasm).and_then(|()| {
            let wasm = prepared(&engine, &wasm)?;
            let module = Module::from_binary(&engine, &wasm).map_err(|error| told(&error))?;
            let code = module.serialize().map_err(|error| told(&error))?;
            Ok(Output { module, code })
        });
        drop(answer.send(compiled));
    };
    let started = thread.spawn(work);
    started.map_err(|error| format!("no thread to compile in: {error}"))?;
    compiled
        .await
        .map_err(|_| "the compiler failed on this module".to_owned())?
}

/// Does on a thread for it what takes a while.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| "the compiler failed on this module".to_owned())?
}

/// What is compiled of a binary. It is looked at as it was pushed first, so that it is this that must be valid, and that
/// messages speak of.
fn prepared<'a>(engine: &Engine, wasm: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
    Module::validate(engine, wasm).map_err(|error| told(&error))?;
    prepare::prepare(wasm)
}

fn told(error: &wasmtime::Error) -> String {
    module::first_lines(error)
}

/// What a process is told before the binary: its own bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    /// Wall clock.
    time: Duration,
    heap_bytes: u64,
}

/// The numbers of an order, each as 8 bytes, the least significant first.
const ORDER_BYTES: usize = 2 * 8;

impl Order {
    /// Gives a process the order and the binary, and takes what it answers: how it ended, its output, and
    /// what it said of a fault.
    async fn talk(
        &self,
        mut child: Child,
        wasm: &[u8],
    ) -> std::io::Result<(ExitStatus, Vec<u8>, String)> {
        let (mut code, mut complaint) = (Vec::new(), Vec::new());
        if let (Some(mut input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        {
            let give = async {
                // One that ended meanwhile says why by its exit.
                let _ = input.write_all(&self.encode()).await;
                let _ = input.write_all(wasm).await;
                drop(input);
            };
            let mut output = output.take(MAX_CODE_BYTES + 1);
            let mut errors = errors.take(MAX_WORD_BYTES);
            let take = async {
                let read = output.read_to_end(&mut code).await;
                // One that has more to say than is taken ends of that.
                drop(output);
                read
            };
            let listen = async {
                let _ = errors.read_to_end(&mut complaint).await;
                drop(errors);
            };
            let (_, read, ()) = tokio::join!(give, take, listen);
            read?;
        }
        let status = child.wait().await?;
        Ok((
            status,
            code,
            String::from_utf8_lossy(&complaint).into_owned(),
        ))
    }

    fn too_long(self) -> String {
        let limit = self.time.as_millis();
        format!(
            "compiling it took longer than the limit of {limit} ms (`compile_time_ms`), and was ended; split its largest functions, or build it with fewer optimisations that copy code (for Rust opt-level = \"s\")"
        )
    }

    fn died(self, status: ExitStatus, complaint: &str) -> String {
        let limit = self.heap_bytes;
        tracing::warn!(%status, complaint, "a compiler ended without an answer");
        match complaint.contains("memory allocation of") || complaint.contains("Cannot allocate") {
            true => format!(
                "compiling it takes more memory than the limit of {limit} bytes (`compile_memory_bytes`); split its largest functions"
            ),
            false => format!("the compiler failed on this module ({status})"),
        }
    }

    fn encode(self) -> Vec<u8> {
        let time = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        let numbers = [time, self.heap_bytes];
        numbers.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8; ORDER_BYTES]) -> Option<Self> {
        let (time, heap) = bytes.split_first_chunk()?;
        Some(Self {
            time: Duration::from_millis(u64::from_le_bytes(*time)),
            heap_bytes: u64::from_le_bytes(heap.try_into().ok()?),
        })
    }

    /// The bounds of the process that compiles, which it gives itself before it reads the binary.
    fn confine(self) -> std::io::Result<()> {
        let bound = |resource, limit| {
            let limits = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            setrlimit(resource, limits)
        };
        bound(Resource::Core, 0)?;
        // What is written to counts, and not what is only reserved.
        bound(Resource::Data, self.heap_bytes + STACK_BYTES as u64)?;
        // It also ends one whose server has gone.
        bound(Resource::Cpu, self.time.as_secs() + 1)?;
        nice(NICENESS)?;
        Ok(())
    }
}

/// Compiles the binary on the standard input as the order before it says. This is what `luge-server compile` does.
pub fn run() -> ExitCode {
    let (answer, code) = match compile_input() {
        Ok(code) => (code, ExitCode::SUCCESS),
        Err(reason) => (reason.into_bytes(), ExitCode::from(REFUSED)),
    };
    let mut output = std::io::stdout().lock();
    match output.write_all(&answer).and_then(|()| output.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn compile_input() -> Result<Vec<u8>, String> {
    let mut input = std::io::stdin().lock();
    let mut order = [0; ORDER_BYTES];
    let read = input.read_exact(&mut order);
    read.map_err(|error| format!("`luge-server compile` is for the server's own use: {error}"))?;
    let order = Order::decode(&order).ok_or("its order can't be read")?;
    let confined = order.confine();
    confined.map_err(|error| format!("the compiler can't be bounded: {error}"))?;
    let mut wasm = Vec::new();
    let read = input.read_to_end(&mut wasm);
    read.map_err(|error| format!("the binary can't be read: {error}"))?;
    let compile = move || {
        let engine = engine::for_compiling().map_err(|error| error.to_string())?;
        let wasm = prepared(&engine, &wasm)?;
        let code = engine.precompile_module(&wasm);
        code.map_err(|error| told(&error))
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let compiling = thread.spawn(compile);
    let compiling = compiling.map_err(|error| format!("no thread to compile in: {error}"))?;
    compiling
        .join()
        .map_err(|_| "the compiler failed on this module".to_owned())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_reads_the_order_that_the_server_wrote() {
        let order = Order {
            time: Duration::from_millis(30_001),
            heap_bytes: 1 << 40,
        };
        let written: [u8; ORDER_BYTES] = order.encode().try_into().unwrap();
        assert_eq!(Order::decode(&written), Some(order));
    }
}
