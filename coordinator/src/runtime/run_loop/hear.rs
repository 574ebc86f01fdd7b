//! Takes in what came from outside, and decides it.

use super::input::{Heard, Input};
use super::{After, MAX_PENDING_APPENDS, RunLoop};
use crate::runtime::link::{AgentLife, Recipient};
use cairn_model::{AgentIndex, Command, Report, ReportKind, TaskIndex};

impl RunLoop {
    /// Decides what has come in, as far as appends may be under way. Reports that came together are decided together.
    pub(super) fn take_in(&mut self) {
        while self.pending.len() < MAX_PENDING_APPENDS
            && let Some(input) = self.undecided.pop_front()
        {
            match input {
                Input::Reports(mut reports) => {
                    while let Some(Input::Reports(more)) = self.undecided.pop_front_if(is_report) {
                        reports.extend(more);
                    }
                    self.hear(reports);
                }
                Input::Heard(heard) => {
                    let mut reports = Vec::with_capacity(heard.reports.len());
                    let mut after = After::default();
                    self.take_reports(heard, &mut reports, &mut after);
                    while let Some(Input::Heard(more)) =
                        self.undecided.pop_front_if(|input| matches!(input, Input::Heard(_)))
                    {
                        self.take_reports(more, &mut reports, &mut after);
                    }
                    self.decide_reports(reports, after);
                }
                Input::Held { from, attempts } => self.compare(&from, &attempts),
                Input::Lost { life, reason, as_planned } => {
                    if let Some(agent) = self.find(&life) {
                        let command = match as_planned {
                            true => Command::AgentLeft { agent, reason },
                            false => Command::AgentLost { agent, reason },
                        };
                        // Refused where the run has ended, which is as well.
                        let _ = self.decide(command, After::default());
                    }
                }
                Input::Look(look) => {
                    self.looks.push(look);
                    return;
                }
                Input::LetGo => {
                    self.is_let_go = true;
                    return;
                }
                Input::Command { command, user, reply } => {
                    let after = After { replies: vec![reply], ..After::default() };
                    if let Err((rejection, after)) = self.decide_for(user.as_deref(), command, after) {
                        for reply in after.replies {
                            // Whoever asked may have gone away.
                            let _ = reply.send(Err(rejection.clone()));
                        }
                    }
                }
            }
        }
    }

    fn hear(&mut self, reports: Vec<Report>) {
        if reports.is_empty() {
            return;
        }
        let ended = |report: &Report| {
            let finished = matches!(report.kind, ReportKind::Finished { .. });
            finished.then_some((Recipient::Agent(report.agent), report.task, report.attempt))
        };
        let acknowledgements = reports.iter().filter_map(ended).collect();
        let after = After { acknowledgements, ..After::default() };
        // Reports are never refused as a whole.
        let _ = self.decide(Command::Reports(reports), after);
    }

    /// Reads what an agent of the fleet says. Of one that has no part in the run (any more) it is stale; its ends are
    /// acknowledged all the same, or it would tell them for ever.
    fn take_reports(&mut self, heard: Heard, reports: &mut Vec<Report>, after: &mut After) {
        let agent = self.find(&heard.from);
        for (task, attempt, kind) in heard.reports {
            let is_end = matches!(kind, ReportKind::Finished { .. });
            if is_end {
                let to = agent.map_or_else(|| Recipient::Stranger(heard.from.clone()), Recipient::Agent);
                after.acknowledgements.push((to, task, attempt));
            }
            let Some(agent) = agent else {
                self.stale_reports += 1;
                continue;
            };
            if let Some(outstanding) = &mut self.outstanding {
                let is_over = is_end || matches!(kind, ReportKind::Declined { .. });
                if is_over {
                    outstanding.ended(agent, task, attempt);
                } else {
                    outstanding.answered(agent, task, attempt);
                }
            }
            reports.push(Report { task, attempt, agent, kind });
        }
        if let Some(receipt) = heard.receipt {
            receipt.acknowledge();
        }
    }

    fn decide_reports(&mut self, reports: Vec<Report>, after: After) {
        if reports.is_empty() {
            self.settle(after);
        } else {
            // Reports are never refused as a whole.
            let _ = self.decide(Command::Reports(reports), after);
        }
    }

    /// Attempts that their agent does not name are offered again.
    fn compare(&mut self, from: &AgentLife, attempts: &[(TaskIndex, u32)]) {
        if let Some((agent, outstanding)) = self.find(from).zip(self.outstanding.as_mut()) {
            outstanding.named(agent, attempts);
        }
    }

    /// The agent of the run in that life, if it is not lost.
    fn find(&self, life: &AgentLife) -> Option<AgentIndex> {
        let agent = self.state.find_agent(&life.id)?;
        let spec = &self.state.agents().get(agent.get())?.spec;
        (spec.incarnation == life.incarnation).then_some(agent)
    }
}

fn is_report(input: &mut Input) -> bool {
    matches!(input, Input::Reports(_))
}
