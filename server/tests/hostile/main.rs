//! Modules that mean harm. Each is pushed, called, and ended with the code that it says; and then the store
//! holds what it held, nothing runs, and a good module is served on the same connection.
//!
//! ```text
//!   modules/KIND/NAME.wat   one module; its first lines say what becomes of it (corpus.rs)
//!   bloat.rs                modules that are too large to be written down
//!   arguments.rs            every function of the ABI with every pointer and length gone wrong
//!   stages.rs               every function of the ABI where it may not be called
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect fails, and says where"
)]

mod arena;
mod arguments;
mod bloat;
mod corpus;
mod page;
mod stages;
mod talk;

use std::sync::{Mutex, MutexGuard, PoisonError};

use arena::Arena;
use corpus::Case;
use talk::Talk;

/// The fewest modules that are written down.
const MIN_FILES: usize = 60;

/// What the process may hold more after the corpus went through several times than after the first. A leak
/// of a single memory of 16 MiB in one pass is more.
const MAX_GROWTH_BYTES: usize = 32 << 20;

/// How often the corpus goes through, once the memory that is kept for good is there.
const PASSES: usize = 2;

/// One test after the other: what one holds would be taken for what another leaks.
static TURN: Mutex<()> = Mutex::new(());

fn run_all(arena: &mut Arena, cases: &[Case]) {
    let failures: Vec<String> = cases.iter().flat_map(|case| arena.run(case)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_module_of_the_corpus_ends_as_it_says_and_leaves_nothing() {
    let _turn = turn();
    let cases = corpus::read();
    assert!(cases.len() >= MIN_FILES, "{} modules", cases.len());
    let mut arena = Arena::new(Talk::in_memory());
    run_all(&mut arena, &cases);
    let before = resident_bytes();
    for _ in 0..PASSES {
        run_all(&mut arena, &cases);
    }
    let after = resident_bytes();
    assert!(
        after < before + MAX_GROWTH_BYTES,
        "{PASSES} passes over the corpus took the process from {before} to {after} resident bytes"
    );
}

#[test]
fn every_module_of_the_corpus_ends_so_on_a_socket() {
    let _turn = turn();
    let (server, talk) = Talk::on_a_socket();
    let mut arena = Arena::new(talk);
    run_all(&mut arena, &corpus::read());
    drop(arena);
    server.stop().unwrap();
}

#[test]
fn bloated_modules_are_refused_or_served() {
    let _turn = turn();
    run_all(&mut Arena::new(Talk::in_memory()), &bloat::cases());
}

#[test]
fn every_range_outside_of_memory_is_a_trap_of_its_function() {
    let _turn = turn();
    run_all(&mut Arena::new(Talk::in_memory()), &arguments::cases());
}

#[test]
fn no_argument_of_wasi_does_harm() {
    let _turn = turn();
    run_all(&mut Arena::new(Talk::in_memory()), &arguments::wasi_cases());
}

#[test]
fn every_function_is_refused_where_it_may_not_be_called() {
    let _turn = turn();
    run_all(&mut Arena::new(Talk::in_memory()), &stages::cases());
}

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the process holds in memory.
fn resident_bytes() -> usize {
    const PAGE_BYTES: usize = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    resident * PAGE_BYTES
}
