//! What people ask for.

use super::handle::{Look, Part, Wish, WishError};
use super::service::{Ready, Service};
use super::side_log::SideEvent;
use crate::runtime::{Input, LoadError, LoadedRun, RunSummary, find_run, load_run};
use crate::store::StoreView;
use cairn_engine::Rejection;
use cairn_model::{Command, Plan, RunId, Scope};
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// A wish, and who waits for its answer.
pub(super) struct Wished {
    part: Part,
    wish: Wish,
    user: String,
    reply: Reply,
}

/// A run that had ended, read back, and is to go on.
pub(super) struct Reopen {
    run: RunId,
    read: (RunSummary, LoadedRun),
    wished: Wished,
}

/// A wish that came too late for the loop of its run.
pub(super) struct LateWish {
    run: RunId,
    wished: Wished,
}

/// What a wish is answered with.
type Reply = oneshot::Sender<Result<(), WishError>>;

impl Service {
    /// Carries a wish to the run that it is about.
    pub(super) fn wish(&mut self, name: &str, part: Part, wish: Wish, user: String, reply: Reply) {
        let Some(run) = self.submissions.resolve(name) else {
            let _ = reply.send(Err(WishError::NoSuchRun { run: name.to_owned() }));
            return;
        };
        let Some(active) = self.runs.get(&run) else {
            let wished = Wished { part, wish, user, reply };
            return self.wish_of_ended(&run, wished);
        };
        let command = match command(&active.plan, &run, &part, wish.clone()) {
            Ok(command) => command,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let (answer, durable) = oneshot::channel();
        active.send(Input::Command { command, user: Some(user.clone()), reply: answer });
        let wished = Wished { part, wish, user, reply };
        tokio::spawn(pass_on(durable, run, wished, self.ready.clone()));
    }

    /// Carries a wish that came while the loop of its run was ending: it is about an ended run now.
    pub(super) fn wish_again(&mut self, late: LateWish) {
        let LateWish { run, wished: Wished { part, wish, user, reply } } = late;
        self.wish(&run.to_string(), part, wish, user, reply);
    }

    /// A run that has ended takes only one wish: to be taken up again. It is read beside the service.
    fn wish_of_ended(&self, run: &RunId, wished: Wished) {
        let (state_directory, ready) = (self.config.state_directory.clone(), self.ready.clone());
        let (view, run) = (self.view(), run.clone());
        let Ok(permit) = self.reads.clone().try_acquire_owned() else {
            return drop(wished.reply.send(Err(WishError::Busy)));
        };
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let Wished { part, wish, user, reply } = wished;
            let answer = match read(&state_directory, &view, &run) {
                Ok(read) if matches!(wish, Wish::Retry { .. }) => {
                    let wished = Wished { part, wish, user, reply };
                    // The service may be ending; whoever asked sees that.
                    return drop(ready.blocking_send(Ready::Reopen(Box::new(Reopen { run, read, wished }))));
                }
                Ok((_, loaded)) => {
                    let status = loaded.state.run().status;
                    Err(WishError::Rejected(Rejection::RunEnded { run: run.to_string(), status }))
                }
                Err(error) => Err(error),
            };
            // Whoever asked may have gone away.
            let _ = reply.send(answer);
        });
    }

    /// Goes on with a run that had ended.
    pub(super) async fn reopen(&mut self, reopen: Reopen) {
        let Reopen { run, read: (_, loaded), wished: Wished { part, wish, user, reply } } = reopen;
        if self.runs.contains_key(&run) {
            return self.wish(&run.to_string(), part, wish, user, reply);
        }
        let command = match command(loaded.state.plan(), &run, &part, wish.clone()) {
            Ok(command) => command,
            Err(error) => return drop(reply.send(Err(error))),
        };
        // Decided before anything else: a loop whose run has ended ends.
        let (answer, durable) = oneshot::channel();
        let first = Input::Command { command, user: Some(user.clone()), reply: answer };
        if let Err(error) = self.take_over(run.clone(), loaded, Some(first)).await {
            return drop(reply.send(Err(WishError::Unavailable { reason: error.to_string() })));
        }
        self.submissions.forget(&run);
        tokio::spawn(pass_on(durable, run, Wished { part, wish, user, reply }, self.ready.clone()));
    }

    /// Shows a run: where it is under way in its loop, else as the log tells it.
    pub(super) fn look(&mut self, name: &str, look: Look) {
        let Some(run) = self.submissions.resolve(name) else {
            return look(Err(WishError::NoSuchRun { run: name.to_owned() }));
        };
        if let Some(active) = self.runs.get(&run) {
            active.send(Input::Look(Box::new(move |state| look(Ok(state)))));
            return;
        }
        if let Some(state) = self.submissions.kept(&run) {
            tokio::task::spawn_blocking(move || look(Ok(&state)));
            return;
        }
        let (state_directory, view) = (self.config.state_directory.clone(), self.view());
        let Ok(permit) = self.reads.clone().try_acquire_owned() else { return look(Err(WishError::Busy)) };
        tokio::task::spawn_blocking(move || {
            let read = read(&state_directory, &view, &run);
            drop(permit);
            match read {
                Ok((_, loaded)) => look(Ok(&loaded.state)),
                Err(error) => look(Err(error)),
            }
        });
    }

    /// Gives an agent nothing new, or work again.
    pub(super) fn drain(&mut self, agent: &str, drain: bool, user: &str, reply: Reply) {
        if !self.registry.drain(agent, drain, &mut self.actions) {
            let _ = reply.send(Err(WishError::NoSuchAgent { agent: agent.to_owned() }));
            return;
        }
        let agent = agent.to_owned();
        let event =
            if drain { SideEvent::AgentDrained { agent } } else { SideEvent::AgentUndrained { agent } };
        let ticket = self.side_log.write(&event, user);
        tokio::spawn(async move {
            let answer = ticket.await.map(|_| ());
            // Whoever asked may have gone away.
            let _ = reply.send(answer.map_err(|error| WishError::Unavailable { reason: error.to_string() }));
        });
    }
}

/// Reads a run back from the log. Blocks.
fn read(state_directory: &Path, view: &StoreView, run: &RunId) -> Result<(RunSummary, LoadedRun), WishError> {
    let read = || -> Result<_, LoadError> {
        let summary = find_run(view, &run.to_string())?;
        let loaded = load_run(state_directory, view, &summary, None)?;
        Ok((summary, loaded))
    };
    read().map_err(|error| match error {
        LoadError::NoSuchRun { run } => WishError::NoSuchRun { run },
        error => WishError::Unreadable { run: run.to_string(), reason: error.to_string() },
    })
}

async fn pass_on(
    durable: oneshot::Receiver<Result<(), Rejection>>,
    run: RunId,
    wished: Wished,
    ready: mpsc::Sender<Ready>,
) {
    let answer = match durable.await {
        // What has ended can be retried, so the loop has not heard of it.
        Ok(Err(Rejection::RunEnded { .. })) if matches!(wished.wish, Wish::Retry { .. }) => {
            // The service may be ending; whoever asked sees that.
            return drop(ready.send(Ready::Wished(Box::new(LateWish { run, wished }))).await);
        }
        Ok(answer) => answer.map_err(WishError::Rejected),
        Err(_) => Err(WishError::Unavailable { reason: "the run is ending".to_owned() }),
    };
    // Whoever asked may have gone away.
    let _ = wished.reply.send(answer);
}

/// The engine's command for a wish about a part of a run.
fn command(plan: &Plan, run: &RunId, part: &Part, wish: Wish) -> Result<Command, WishError> {
    let scope = scope(plan, part)
        .ok_or_else(|| WishError::NoSuchPart { run: run.to_string(), what: describe(part) })?;
    Ok(match wish {
        Wish::Pause { reason } => Command::Pause { scope, reason: reason.into() },
        Wish::Resume => Command::Resume { scope },
        Wish::Cancel { reason } => Command::Cancel { scope, reason: reason.into() },
        Wish::Retry { downstream } => Command::Retry { scope, downstream },
    })
}

fn scope(plan: &Plan, part: &Part) -> Option<Scope> {
    let Some(milestone) = &part.milestone else { return Some(Scope::Run) };
    let milestone = plan.find_milestone(milestone)?;
    let Some(task) = &part.task else { return Some(Scope::Milestone(milestone)) };
    plan.find_task(milestone, task).map(Scope::Task)
}

fn describe(part: &Part) -> String {
    match (&part.milestone, &part.task) {
        (Some(milestone), Some(task)) => format!("task {milestone}/{task}"),
        (Some(milestone), None) => format!("milestone {milestone}"),
        (None, _) => "such part".to_owned(),
    }
}
