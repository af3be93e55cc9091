//! The two phases of hooks around the commands of a request.
//!
//! Request hooks may change, refuse or answer a part; what they write stands whatever becomes of the
//! command. Response hooks run always, once, and see how it ended; where one of them blocks, what the
//! commands and all response hooks wrote is undone together.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use luge_protocol::{ErrorCode, ErrorReply, HookCommand, OnFailure, Phase};

use super::attempt::{Abort, Attempt};
use super::refusal;
use crate::command::{self, Action, Outcome, Part, Plan, Shape, Verdict};
use crate::function::{Call, Failure, HookEntry, HookView, ResponseStatus, Runtime, Stage};
use crate::store::Store;
use crate::transaction::TransactionError;

/// What one hook decided, after failures have been dealt with.
enum Decision {
    Continue(Box<HookView>),
    Block(ErrorReply),
    Respond(Bytes),
    Absent,
    /// It failed, and its failure refuses the request, whatever kind of part it stood around.
    Refuse(ErrorReply),
    /// It failed, and is passed over.
    PassOver,
}

/// What is left of a phase's bounds.
struct PhaseBudget {
    left: Duration,
    limit: Duration,
    /// What hooks may still put into the place of values, in bytes.
    bytes_left: usize,
}

impl<'a, S: Store, R: Runtime<S::Snapshot>> Attempt<'a, S, R> {
    /// Runs the request hooks of every part; answers why the request is refused, if it is.
    pub(super) async fn request_hooks(
        &mut self,
        plan: &mut Plan,
    ) -> Result<Option<ErrorReply>, Abort> {
        let is_scan = matches!(plan.shape, Shape::Scan { .. });
        let mut budget = self.phase_budget();
        let mut refused = None;
        for at in 0..plan.parts.len() {
            let (earlier, rest) = plan.parts.split_at_mut(at);
            let Some(part) = rest.first_mut() else { break };
            if let Action::Incr { delta } = part.action
                && self.registry.is_hooked(HookCommand::Set, &part.key)
            {
                part.value = self.foresee_sum(earlier, &part.key, delta).await?;
            }
            self.request_hooks_of(part, &mut budget, &mut refused)
                .await?;
            let Verdict::Blocked(block) = &part.verdict else {
                continue;
            };
            if !is_scan && !part.is_disclosure() && refused.is_none() {
                refused = Some((**block).clone());
            }
        }
        Ok(refused)
    }

    async fn foresee_sum(
        &mut self,
        earlier: &[Part],
        key: &[u8],
        delta: i64,
    ) -> Result<Option<Bytes>, Abort> {
        match command::foresee_sum(self.transaction()?, earlier, key, delta).await {
            Ok(sum) => Ok(sum),
            Err(TransactionError::Store(error)) => Err(Abort::Store(error)),
            Err(_) => Err(Abort::Lost),
        }
    }

    async fn request_hooks_of(
        &mut self,
        part: &mut Part,
        budget: &mut PhaseBudget,
        refused: &mut Option<ErrorReply>,
    ) -> Result<(), Abort> {
        let registry = self.registry;
        let command = part.hook_command();
        if !registry.has_any(command, Phase::Request, &part.key) {
            return Ok(());
        }
        let key = part.key.clone();
        for hook in registry.hooks(command, Phase::Request, &key) {
            let view = view(part, ResponseStatus::Ok, None);
            match self
                .run_hook(hook, Stage::RequestHook, view, budget)
                .await?
            {
                Decision::Continue(changed) => {
                    part.value = changed.value;
                    part.ttl = changed.ttl;
                }
                Decision::PassOver => {}
                Decision::Block(block) => part.verdict = Verdict::Blocked(Box::new(block)),
                Decision::Respond(reply) => part.verdict = Verdict::Responded(reply),
                Decision::Absent => part.verdict = Verdict::Absent,
                Decision::Refuse(block) => {
                    if !part.is_disclosure() {
                        refused.get_or_insert_with(|| block.clone());
                    }
                    part.verdict = Verdict::Blocked(Box::new(block));
                }
            }
            if part.verdict != Verdict::Proceed {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Runs the response hooks of every part; answers the block, if one of them blocks.
    pub(super) async fn response_hooks(
        &mut self,
        plan: &mut Plan,
        refused: Option<&ErrorReply>,
    ) -> Result<Option<ErrorReply>, Abort> {
        let is_scan = matches!(plan.shape, Shape::Scan { .. });
        let mut budget = self.phase_budget();
        let mut blocked: Option<ErrorReply> = None;
        for part in &mut plan.parts {
            let registry = self.registry;
            let command = part.hook_command();
            if !registry.has_any(command, Phase::Response, &part.key) {
                continue;
            }
            let key = part.key.clone();
            for hook in registry.hooks(command, Phase::Response, &key) {
                let (status, response) = status(part, refused.or(blocked.as_ref()));
                let view = view(part, status, response);
                match self
                    .run_hook(hook, Stage::ResponseHook, view, &mut budget)
                    .await?
                {
                    Decision::Continue(changed) => answer_instead(part, status, *changed),
                    Decision::Refuse(block) if !part.is_disclosure() => {
                        blocked.get_or_insert(block);
                    }
                    Decision::Block(block) if !is_scan && !part.is_disclosure() => {
                        blocked.get_or_insert(block);
                    }
                    // An entry of a scan or a disclosure is left out.
                    Decision::Block(block) | Decision::Refuse(block) => {
                        part.outcome = Outcome::Pending;
                        part.verdict = Verdict::Blocked(Box::new(block));
                    }
                    Decision::PassOver | Decision::Respond(_) | Decision::Absent => {}
                }
            }
        }
        Ok(blocked)
    }

    fn phase_budget(&self) -> PhaseBudget {
        let limit = self.core.settings.phase_cpu;
        PhaseBudget {
            left: limit,
            limit,
            bytes_left: self.core.settings.max_frame_bytes,
        }
    }

    async fn run_hook(
        &mut self,
        entry: &'a HookEntry<R::Module>,
        stage: Stage,
        view: Box<HookView>,
        budget: &mut PhaseBudget,
    ) -> Result<Decision, Abort> {
        if budget.left.is_zero() {
            return Ok(Decision::Refuse(self.out_of_time(entry, budget)));
        }
        let (module, command) = (&entry.module, view.command);
        let savepoint = self.transaction()?.savepoint();
        let before = (place(view.value.as_ref()), place(view.response.as_ref()));
        let setup = |call: &mut Call<S::Snapshot>| call.view = Some(view);
        let (end, outcome, usage) = self
            .call(
                module,
                &entry.function,
                stage,
                Arc::clone(&module.limits),
                budget.left,
                setup,
            )
            .await?;
        budget.left = budget.left.saturating_sub(usage.cpu);
        let bytes = end.output.len()
            + end
                .view
                .as_ref()
                .map_or(0, |view| changed_bytes(view, before));
        let name = &module.description.name;
        if bytes > budget.bytes_left {
            self.transaction()?.undo_to(savepoint);
            self.drop_instance(module);
            return Ok(Decision::Refuse(self.too_much()));
        }
        budget.bytes_left -= bytes;
        let decision = match (outcome, end.view) {
            (Ok(0), Some(view)) => return Ok(Decision::Continue(view)),
            (Ok(1), _) => {
                return Ok(Decision::Block(refusal::blocked(
                    name,
                    &entry.hook.hook,
                    &end.output,
                )));
            }
            (Ok(number), _) => decide(stage, command, number, end.output).inspect_err(|failure| {
                if let Some(stats) = module.stats.of(&entry.hook.hook) {
                    stats.add_error(failure.code);
                }
            }),
            (Err(failure), _) => Err(failure),
        };
        match decision {
            Ok(decision) => Ok(decision),
            Err(failure) => {
                self.transaction()?.undo_to(savepoint);
                self.drop_instance(module);
                if budget.left.is_zero() {
                    return Ok(Decision::Refuse(self.out_of_time(entry, budget)));
                }
                Ok(self.deal_with(entry, *failure))
            }
        }
    }

    /// A hook's failure is a block, or is passed over, as its description says.
    fn deal_with(&self, entry: &HookEntry<R::Module>, failure: Failure) -> Decision {
        let (module, hook) = (&entry.module.description.name, &entry.hook.hook);
        tracing::warn!(module, hook, code = %failure.code, "a hook failed: {}", failure.message);
        match entry.hook.on_failure {
            OnFailure::Block => Decision::Refuse(refusal::failed_hook(
                module,
                hook,
                self.request.request,
                failure,
            )),
            OnFailure::Continue => Decision::PassOver,
        }
    }

    fn too_much(&self) -> ErrorReply {
        let limit = self.core.settings.max_frame_bytes;
        let message =
            format!("what hooks put into the place of values exceeds the limit of {limit} bytes");
        ErrorReply::new(ErrorCode::TooLarge, message)
    }

    fn out_of_time(&self, entry: &HookEntry<R::Module>, budget: &PhaseBudget) -> ErrorReply {
        let message = format!(
            "the hooks of this phase used up their {:?} of cpu time together",
            budget.limit
        );
        let failure = Failure::new(ErrorCode::CpuExhausted, message);
        let (module, hook) = (&entry.module.description.name, &entry.hook.hook);
        refusal::failed_hook(module, hook, self.request.request, failure)
    }
}

/// Where a value lies: one that a hook has put in its place lies elsewhere.
fn place(value: Option<&Bytes>) -> Option<usize> {
    value.map(|value| value.as_ptr().addr())
}

/// The bytes that a hook has put into the place of others.
fn changed_bytes(view: &HookView, before: (Option<usize>, Option<usize>)) -> usize {
    let changed = |value: &Option<Bytes>, before| match value {
        Some(value) if place(Some(value)) != before => value.len(),
        _ => 0,
    };
    changed(&view.value, before.0) + changed(&view.response, before.1)
}

/// What a number other than 0 and 1 means.
fn decide(
    stage: Stage,
    command: HookCommand,
    number: i32,
    output: Vec<u8>,
) -> Result<Decision, Box<Failure>> {
    let is_request = stage == Stage::RequestHook;
    match (number, command) {
        (2, HookCommand::Get | HookCommand::Call) if is_request => {
            Ok(Decision::Respond(Bytes::from(output)))
        }
        (3, HookCommand::Get) if is_request => Ok(Decision::Absent),
        _ => {
            let message = format!(
                "the hook returned {number}, which means nothing for a {} in this phase",
                command.name()
            );
            Err(Box::new(Failure::new(ErrorCode::Trap, message)))
        }
    }
}

/// What a hook sees of a part.
fn view(part: &Part, status: ResponseStatus, response: Option<Bytes>) -> Box<HookView> {
    let (condition, delta) = match part.action {
        Action::Set { condition, .. } => (condition, None),
        Action::Incr { delta } => (None, Some(delta)),
        _ => (None, None),
    };
    let value = if part.is_disclosure() {
        None
    } else {
        part.value.clone()
    };
    Box::new(HookView {
        command: part.hook_command(),
        key: part.key.clone(),
        value,
        ttl: part.ttl,
        condition,
        delta,
        status,
        response,
    })
}

/// How a part ended, with the value that it returns or the name of the code that it failed with.
fn status(part: &Part, refused: Option<&ErrorReply>) -> (ResponseStatus, Option<Bytes>) {
    if let Some(reply) = refused {
        let is_block = reply.code() == ErrorCode::Blocked;
        let status = if is_block {
            ResponseStatus::Blocked
        } else {
            ResponseStatus::Error
        };
        return (
            status,
            Some(Bytes::copy_from_slice(reply.code().name().as_bytes())),
        );
    }
    let value = match &part.outcome {
        Outcome::Value { value, .. } => Some(value.clone()),
        _ => None,
    };
    match (&part.verdict, &part.outcome) {
        (Verdict::Blocked(block), _) => (
            ResponseStatus::Blocked,
            Some(Bytes::copy_from_slice(block.code().name().as_bytes())),
        ),
        (Verdict::Responded(_), _) => (ResponseStatus::Responded, value),
        (_, Outcome::Absent) => (ResponseStatus::Absent, None),
        _ => (ResponseStatus::Ok, value),
    }
}

/// Puts what a response hook made of the value in its place.
fn answer_instead(part: &mut Part, status: ResponseStatus, changed: HookView) {
    let Some(response) = changed.response else {
        return;
    };
    // What tells no value heeds only a block and an absence.
    if matches!(part.action, Action::Exists | Action::Ttl | Action::Check(_)) {
        return;
    }
    match (&mut part.outcome, status) {
        (_, ResponseStatus::Error | ResponseStatus::Blocked) => {}
        (Outcome::Value { value, .. }, _) => *value = response,
        (outcome, _) => {
            *outcome = Outcome::Value {
                value: response,
                version: Some(0),
                ttl_ms: 0,
            }
        }
    }
}
