//! Procedures within an attempt: called by name, undone where they refuse or fail.

use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{ErrorCode, ErrorDetails, ErrorReply};

use super::attempt::{Abort, Attempt};
use super::refusal;
use crate::command::{CommandError, Part, Verdict, settle_call};
use crate::function::{Call, Registered, Runtime, Stage};
use crate::store::Store;

impl<S: Store, R: Runtime<S::Snapshot>> Attempt<'_, S, R> {
    /// Runs the procedure that a part names.
    pub(super) async fn apply_call(
        &mut self,
        part: &mut Part,
    ) -> Result<Result<(), CommandError>, Abort> {
        match &part.verdict {
            Verdict::Proceed => {}
            Verdict::Responded(value) => {
                settle_call(part, value.clone());
                return Ok(Ok(()));
            }
            Verdict::Absent | Verdict::Blocked(_) => return Ok(Ok(())),
        }
        let Some(called) = self.called else {
            let name = String::from_utf8_lossy(&part.key);
            return Ok(Err(self.unknown_procedure(&name).into()));
        };
        let (module, function) = (called.module, called.function);
        let input = part.value.clone().unwrap_or_default();
        let before = self.transaction()?.savepoint();
        let is_read_only = called.description.read_only;
        let was_read_only = self.transaction()?.set_read_only(is_read_only);
        let limits = match self.lowered {
            Some(lowered) => Arc::new(module.limits.lowered_by(lowered)),
            None => Arc::clone(&module.limits),
        };
        let cpu = limits.cpu;
        let setup = |call: &mut Call<S::Snapshot>| call.input = input;
        let (call, outcome, _) = self
            .call(module, function, Stage::Procedure, limits, cpu, setup)
            .await?;
        let function = &called.description.procedure;
        self.transaction()?.set_read_only(was_read_only);
        let output = Bytes::from(call.output);
        match outcome {
            Ok(0) => {
                settle_call(part, output);
                Ok(Ok(()))
            }
            Ok(code) => {
                self.transaction()?.undo_to(before);
                Ok(Err(self.rejected(module, function, code, output).into()))
            }
            Err(failure) => {
                self.transaction()?.undo_to(before);
                let number = self.request.request;
                let name = &module.description.name;
                tracing::warn!(module = name, function, code = %failure.code, "a procedure failed: {}", failure.message);
                Ok(Err(refusal::failed(name, function, number, *failure).into()))
            }
        }
    }

    fn rejected(
        &self,
        module: &Registered<R::Module>,
        function: &str,
        code: i32,
        payload: Bytes,
    ) -> ErrorReply {
        let name = &module.description.name;
        let message = format!("{name}.{function} refused with the code {code}");
        ErrorReply::new(ErrorCode::Rejected, message).with(ErrorDetails {
            module: Some(name.clone()),
            function: Some(function.to_owned()),
            code: Some(code),
            payload: Some(payload),
            call: Some(self.request.request),
            ..ErrorDetails::default()
        })
    }

    fn unknown_procedure(&self, name: &str) -> ErrorReply {
        let mut shown: String = name.chars().take(128).collect();
        shown = shown.escape_default().to_string();
        let message = match name
            .split_once('.')
            .and_then(|(module, _)| self.registry.module(module))
        {
            Some(module) => {
                let known: Vec<&str> = module
                    .description
                    .procedures
                    .iter()
                    .map(|it| it.procedure.as_str())
                    .collect();
                format!("no procedure `{shown}`; the module has {}", list(&known))
            }
            None => {
                let named = name.split_once('.').map_or("", |(module, _)| module);
                if self.registry.modules().contains_key(named) {
                    let message = format!(
                        "no procedure `{shown}`: no version of the module is active; {activate} puts one in force",
                        activate = refusal::named("module.activate"),
                    );
                    return ErrorReply::new(ErrorCode::NotFound, message);
                }
                let known: Vec<&str> = self.registry.modules().keys().map(String::as_str).collect();
                format!(
                    "no procedure `{shown}`: procedures are called as module.procedure, and the modules are {}",
                    list(&known)
                )
            }
        };
        ErrorReply::new(ErrorCode::NotFound, message)
    }
}

fn list(names: &[&str]) -> String {
    const MAX_LISTED: usize = 20;
    match names {
        [] => "none".to_owned(),
        names if names.len() > MAX_LISTED => {
            let shown = names.get(..MAX_LISTED).unwrap_or(names).join(", ");
            format!("{shown} and {} more", names.len() - MAX_LISTED)
        }
        names => names.join(", "),
    }
}
