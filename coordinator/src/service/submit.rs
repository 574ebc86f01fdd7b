//! How plans become runs, and how runs of the log are taken up again.

use super::active::{Active, Begin, unasked};
use super::handle::{Submission, SubmitError, Submitted};
use super::keys::{Keys, Use};
use super::service::{Ready, Service, ServiceError};
use super::trace;
use crate::plans;
use crate::projection;
use crate::runtime::{Input, LoadedRun, list_runs, load_run};
use crate::store::{AppendError, ReadError, StoreView, StreamId};
use cairn_engine::State;
use cairn_model::{Command, RunId, RunOptions, RunSubmitted};
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Ended runs that are kept in memory for those who look.
const KEPT_RUNS: usize = 4;

/// Tasks of an ended run that is kept in memory at most; larger ones are read again.
const KEPT_TASKS: usize = 100_000;

/// What a submission is answered with.
pub(super) type SubmitReply = oneshot::Sender<Result<Submitted, SubmitError>>;

/// A plan that was stored, and is to become a run.
pub(super) struct Stored {
    submission: Submission,
    plan_hash: String,
    reply: SubmitReply,
}

/// What is known of runs besides those that are under way.
#[derive(Default)]
pub(super) struct Submissions {
    /// The newest run of each project.
    newest: HashMap<String, u64>,
    keys: Keys,
    /// Runs that ended a while ago.
    kept: VecDeque<(RunId, Arc<State>)>,
}

/// Stores the plan of a submission beside the service; it comes back through `ready`.
pub(super) fn store(
    submission: Submission,
    reply: SubmitReply,
    state_directory: PathBuf,
    ready: mpsc::Sender<Ready>,
) {
    tokio::spawn(async move {
        let stored = tokio::task::spawn_blocking(move || {
            plans::save(&state_directory, submission.plan.text()).map(|plan_hash| (submission, plan_hash))
        });
        match stored.await {
            Ok(Ok((submission, plan_hash))) => {
                // The service may be ending; whoever asked sees that.
                let _ = ready.send(Ready::Stored(Box::new(Stored { submission, plan_hash, reply }))).await;
            }
            Ok(Err(error)) => {
                drop(reply.send(Err(SubmitError::Unavailable { reason: error.to_string() })));
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    });
}

impl Submissions {
    /// The run that a user names: `PROJECT.N`, or the newest of `PROJECT`.
    pub(super) fn resolve(&self, name: &str) -> Option<RunId> {
        match RunId::parse(name) {
            Some(run) => (run.number() <= *self.newest.get(run.project())?).then_some(run),
            None => Some(RunId::new(name, *self.newest.get(name)?)),
        }
    }

    /// Keeps a run that has ended for those who look.
    pub(super) fn keep(&mut self, run: RunId, state: State) {
        if state.plan().task_count() > KEPT_TASKS {
            return;
        }
        self.kept.retain(|(kept, _)| *kept != run);
        self.kept.push_back((run, Arc::new(state)));
        if self.kept.len() > KEPT_RUNS {
            self.kept.pop_front();
        }
    }

    /// A run that was kept.
    pub(super) fn kept(&self, run: &RunId) -> Option<Arc<State>> {
        self.kept.iter().find(|(kept, _)| kept == run).map(|(_, state)| state.clone())
    }

    /// A run that was kept goes on.
    pub(super) fn forget(&mut self, run: &RunId) {
        self.kept.retain(|(kept, _)| kept != run);
    }

    fn know(&mut self, run: &RunId) {
        let newest = self.newest.entry(run.project().to_owned()).or_insert(0);
        *newest = run.number().max(*newest);
    }
}

impl Service {
    /// Starts the run of a plan that was stored.
    pub(super) async fn submit(&mut self, stored: Stored) {
        let Stored { submission, plan_hash, reply } = stored;
        let (plan, graph) = (submission.plan.plan().clone(), submission.plan.graph().clone());
        let what = Use {
            plan_hash: plan_hash.clone(),
            parameters: submission.plan.parameters().to_vec(),
            fail_fast: submission.fail_fast,
        };
        if let Some(key) = &submission.key
            && let Some((run, used)) = self.submissions.keys.find(&submission.user, key)
        {
            if *used == what {
                self.answer_again(run.clone(), reply);
            } else {
                let _ = reply.send(Err(SubmitError::KeyReused { key: key.clone(), run: run.to_string() }));
            }
            return;
        }
        let run = match self.first_free_run(&plan.project).await {
            Ok(run) => run,
            Err(error) => {
                let _ = reply.send(Err(SubmitError::Unavailable { reason: error.to_string() }));
                return;
            }
        };
        self.submissions.know(&run);
        if let Some(key) = submission.key.clone() {
            self.submissions.keys.remember(submission.user.clone(), key, run.clone(), what);
        }
        let submitted = RunSubmitted {
            run: run.to_string(),
            plan_hash: plan_hash.clone(),
            plan_name: submission.plan.name().to_owned(),
            plan_directory: String::new(),
            parameters: submission.plan.parameters().to_vec(),
            options: RunOptions {
                fail_fast: submission.fail_fast,
                // 32 bits of it are enough, and every JSON reader keeps them exactly.
                seed: self.now().0.cast_unsigned() & 0xffff_ffff,
                closed_fleet: false,
            },
            tasks: plan.task_count() as u64,
            milestones: plan.milestones().len() as u64,
            key: submission.key,
        };
        let trace = trace::of_run(&submitted);
        let (accepted, durable) = oneshot::channel();
        let command = Command::Submit(Box::new(submitted));
        let submit = Input::Command { command, user: None, reply: accepted };
        self.begin(Begin {
            run: run.clone(),
            state: State::new(plan, graph),
            versions: HashMap::new(),
            plan_hash,
            trace,
            user: submission.user,
            first: vec![submit, unasked(Command::TakeOver { epoch: 1 })],
        });
        self.introduce_fleet(&run);
        tracing::info!(%run, trace = %trace.id(), "run submitted");
        tokio::spawn(async move {
            let answer = match durable.await {
                Ok(Ok(())) => Ok(Submitted { run, is_new: true }),
                Ok(Err(rejection)) => Err(SubmitError::Unavailable { reason: rejection.to_string() }),
                Err(_) => Err(SubmitError::Unavailable { reason: "its store takes no events".to_owned() }),
            };
            // Whoever asked may have gone away.
            let _ = reply.send(answer);
        });
    }

    /// Answers a submission that was made before, once that one is durable: what a loop shows is.
    fn answer_again(&self, run: RunId, reply: SubmitReply) {
        let Some(active) = self.runs.get(&run) else {
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(Submitted { run, is_new: false }));
            return;
        };
        active.send(Input::Look(Box::new(move |state| {
            let answer = if state.run().id.is_empty() {
                Err(SubmitError::Unavailable { reason: "its store takes no events".to_owned() })
            } else {
                Ok(Submitted { run, is_new: false })
            };
            let _ = reply.send(answer);
        })));
    }

    /// Starts the loop of a run.
    fn begin(&mut self, begin: Begin) {
        let run = begin.run.clone();
        let (active, driven) = Active::start(begin, &self.around);
        self.loops.spawn(driven);
        self.runs.insert(run, active);
    }

    /// The first run of the project whose stream is still empty.
    async fn first_free_run(&self, project: &str) -> Result<RunId, AppendError> {
        let mut number = self.submissions.newest.get(project).copied().unwrap_or(0) + 1;
        loop {
            let run = RunId::new(project, number);
            let stream = StreamId::new(run.to_string());
            if self.config.store.stream_head(&stream).await?.version == 0 {
                return Ok(run);
            }
            number += 1;
        }
    }

    /// The log, for threads that may block. Call it from within the runtime.
    pub(super) fn view(&self) -> StoreView {
        StoreView::new(self.config.store.clone(), tokio::runtime::Handle::current())
    }

    /// Takes over all runs of the log that are not over. A run that cannot be read is left alone, and said so: the
    /// others go on.
    pub(super) async fn take_over_all(&mut self) -> Result<(), ServiceError> {
        let view = self.view();
        let unfinished = tokio::task::spawn_blocking(move || -> Result<_, ReadError> {
            let overviews = projection::list(&view)?;
            let over: HashMap<_, _> = overviews
                .into_iter()
                .map(|overview| (overview.run.clone(), overview.status.is_final()))
                .collect();
            Ok((list_runs(&view)?, over))
        });
        let (all, over) = match unfinished.await {
            Ok(read) => read?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        for summary in all {
            self.submissions.know(&summary.run);
            if let Some(key) = summary.submitted.key.clone() {
                let submitted = &summary.submitted;
                let what = Use {
                    plan_hash: submitted.plan_hash.clone(),
                    parameters: submitted.parameters.clone(),
                    fail_fast: submitted.options.fail_fast,
                };
                self.submissions.keys.remember(summary.user.clone(), key, summary.run.clone(), what);
            }
            let is_over = over.get(&summary.run).copied().unwrap_or(true);
            // What `cairn run` has begun on this state directory is continued by it.
            if !is_over && !summary.submitted.options.closed_fleet {
                let (run, directory) = (summary.run.clone(), self.config.state_directory.clone());
                let view = self.view();
                let loaded = tokio::task::spawn_blocking(move || load_run(&directory, &view, &summary, None));
                match loaded.await {
                    Ok(Ok(loaded)) => self.take_over(run, loaded, None).await?,
                    Ok(Err(error)) => {
                        tracing::error!(%run, %error, "a run cannot be read, and is left alone");
                        self.unread.insert(run.to_string(), error.to_string());
                    }
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            }
        }
        Ok(())
    }

    /// Becomes the owner of a run of the log; `then` is what it is taken over for.
    pub(super) async fn take_over(
        &mut self,
        run: RunId,
        loaded: LoadedRun,
        then: Option<Input>,
    ) -> Result<(), AppendError> {
        let epoch = self.config.store.next_epoch(&StreamId::new(run.to_string())).await?;
        let epoch = epoch.max(loaded.state.run().epoch + 1);
        let now = self.now();
        for agent in loaded.state.agents().iter().filter(|agent| !agent.lost) {
            self.registry.expect(&agent.spec, now, &mut self.actions);
        }
        self.unread.remove(&run.to_string());
        let trace = trace::of_run(&loaded.submitted);
        tracing::info!(%run, epoch, trace = %trace.id(), "run taken over");
        self.begin(Begin {
            run: run.clone(),
            state: loaded.state,
            versions: loaded.versions,
            plan_hash: loaded.submitted.plan_hash,
            trace,
            user: self.config.name.clone(),
            first: [unasked(Command::TakeOver { epoch })].into_iter().chain(then).collect(),
        });
        self.introduce_fleet(&run);
        Ok(())
    }
}
