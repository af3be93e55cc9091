//! The call that runs on this thread.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::export::Command;
use crate::hook::{Condition, Status};
use crate::log::Level;

use super::grant::Granted;
use super::store::{Range, Transaction};

/// What [`crate::context`] tells a function; empty texts are absent.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "named as the functions of `crate::context`, which document them"
)]
pub struct Context {
    pub connection: String,
    pub peer: String,
    pub client: String,
    pub user: String,
    pub request_id: String,
    pub attempt: String,
    pub command: String,
    pub module_version: String,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            connection: "1".to_owned(),
            peer: "127.0.0.1".to_owned(),
            client: String::new(),
            user: String::new(),
            request_id: "1".to_owned(),
            attempt: "1".to_owned(),
            command: String::new(),
            module_version: "1".to_owned(),
        }
    }
}

/// Which host functions may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Transaction,
    Procedure { read_only: bool },
    Request,
    Response,
}

#[derive(Debug)]
pub(super) struct RequestState {
    pub(super) command: Command,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) previous: Option<Vec<u8>>,
    pub(super) ttl_ms: Option<i64>,
    pub(super) condition: Condition,
    pub(super) delta: Option<i64>,
}

#[derive(Debug)]
pub(super) struct ResponseState {
    pub(super) status: Status,
    /// The value, or the error code's name.
    pub(super) value: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct Scan {
    pub(super) rest: Range,
    pub(super) left: u32,
    pub(super) flags: u32,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) phase: Phase,
    pub(super) transaction: Transaction,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    /// The keys that it may use; nothing means every key.
    pub(super) grant: Option<Granted>,
    pub(super) config: BTreeMap<String, Vec<u8>>,
    pub(super) context: Context,
    pub(super) random: u64,
    pub(super) logs: Vec<(Level, String)>,
    pub(super) scans: BTreeMap<i32, Scan>,
    pub(super) next_handle: i32,
    /// In hooks, and the response in response hooks.
    pub(super) request: Option<RequestState>,
    pub(super) response: Option<ResponseState>,
}

thread_local! {
    static CURRENT: RefCell<Option<Call>> = const { RefCell::new(None) };
}

impl Call {
    pub(super) fn new(phase: Phase, transaction: Transaction) -> Self {
        Self {
            phase,
            transaction,
            input: Vec::new(),
            output: Vec::new(),
            grant: None,
            config: BTreeMap::new(),
            context: Context::default(),
            random: 0,
            logs: Vec::new(),
            scans: BTreeMap::new(),
            next_handle: 0,
            request: None,
            response: None,
        }
    }

    /// Runs something as this call, and gives back what it has become.
    pub(super) fn run<T>(self, run: impl FnOnce() -> T) -> (Self, Result<T, Box<dyn Any + Send>>) {
        let earlier = CURRENT.replace(Some(self));
        assert!(
            earlier.is_none(),
            "a call cannot be made from within a call"
        );
        let result = catch_unwind(AssertUnwindSafe(run));
        let call = CURRENT
            .take()
            .expect("only this function takes the call away");
        (call, result)
    }
}

/// Gives a host function the call that runs.
pub(super) fn current<T>(function: &str, act: impl FnOnce(&mut Call) -> T) -> T {
    CURRENT.with_borrow_mut(|call| match call {
        Some(call) => act(call),
        None => panic!(
            "{function}: no call is running; run the function through `luge_udf::testing::Host`"
        ),
    })
}

/// What the server answers with a trap.
pub(super) fn trap(function: &str, reason: &str) -> ! {
    panic!("{function}: {reason}")
}
