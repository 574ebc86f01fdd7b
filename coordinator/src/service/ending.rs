//! How runs end here, and how the coordinator lets go of them.

use super::active::LoopEnd;
use super::service::{Service, ServiceError};
use crate::runtime::{Input, RunError};
use crate::store::AppendError;
use cairn_engine::{Rejection, State};
use cairn_shared::message::wire::WireOrder;
use std::time::Duration;

/// How long an end in good order may take: appends under way, and the last orders.
const ENDING_MAY_TAKE: Duration = Duration::from_secs(10);

impl Service {
    /// A run's loop has ended: the run is over, or another coordinator owns it.
    pub(super) fn ended(&mut self, end: LoopEnd) -> Result<(), ServiceError> {
        let LoopEnd { run, state, result, mut left, mut coming } = end;
        let trace = self.runs.remove(&run).map(|active| active.trace);
        while let Ok(input) = coming.try_recv() {
            left.push_back(input);
        }
        // What is shown is durable. After a failure it may not be: then whoever asked hears that the run is ending.
        if result.is_ok() {
            left.into_iter().for_each(|input| answer_late(input, &state));
        }
        match result {
            Ok(()) if !state.run().status.is_final() => Ok(()),
            Ok(()) => {
                let status = state.run().status.name();
                tracing::info!(%run, status, trace = trace.map(|trace| display(trace.id())), "run ended");
                for agent in state.agents().iter().filter(|agent| !agent.is_pool()) {
                    let (id, incarnation) = (&agent.spec.id, agent.spec.incarnation);
                    let epoch = state.run().epoch;
                    self.order(id, incarnation, &run.to_string(), epoch, WireOrder::Forget, trace);
                }
                self.submissions.keep(run, state);
                Ok(())
            }
            Err(RunError::Store {
                source: AppendError::Conflict { .. } | AppendError::Fenced { .. },
                ..
            }) => {
                tracing::warn!(%run, "another coordinator owns the run now");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Lets go of all runs; what was decided is made durable first.
    pub(super) async fn end(&mut self) {
        for active in self.runs.values() {
            active.send(Input::LetGo);
        }
        let all_ended = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(ENDING_MAY_TAKE, all_ended).await.is_err() {
            tracing::warn!("not all runs could be let go of in time; nothing that was recorded is lost");
        }
    }
}

/// Answers what was asked of a run whose loop had ended.
fn answer_late(input: Input, state: &State) {
    match input {
        Input::Look(look) => look(state),
        Input::Command { reply, .. } => {
            let run = state.run();
            // Whoever asked may have gone away.
            let _ = reply.send(Err(Rejection::RunEnded { run: run.id.clone(), status: run.status }));
        }
        Input::Heard(heard) => {
            if let Some(receipt) = heard.receipt {
                receipt.acknowledge();
            }
        }
        Input::Reports(_) | Input::Held { .. } | Input::Lost { .. } | Input::LetGo => {}
    }
}
