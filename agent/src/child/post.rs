//! The child's loop: what comes from the broker goes to the keeper, and the other way.

mod figures;
mod places;

use self::places::{Room, Subscribed, arrived, next};
use super::http::State;
use super::output::{MAX_WAITING_NAMES, News, Shipper};
use super::uplink::{Overflow, Uplink};
use crate::keeper::job::logs;
use crate::link::{Beat, Setup, ToChild, ToKeeper};
use crate::metric_definitions::UNREADABLE;
use cairn_shared::message::codec::decode;
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::{
    Heartbeat, Hello, RunOrders, RunReports, ToAgent, ToCoordinator, WireOrder,
};
use cairn_shared::transport::{Address, Delivery, Health, Receipt, Transport};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// Deliveries of the agent's own queue that may be under way.
const OWN_WINDOW: u16 = 64;

/// How long a goodbye may take.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);

/// After how many hellos without an answer it is told: about half a minute at the usual pace, more than a lease that was
/// left has to run.
const UNANSWERED_HELLOS: u32 = 15;

/// From here on the signals by which people and service managers end a process do nothing.
pub(super) fn ignore_signals() -> std::io::Result<Vec<Signal>> {
    [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].into_iter().map(signal).collect()
}

pub(super) struct Post {
    hello: Hello,
    transport: Arc<dyn Transport>,
    uplink: Uplink,
    to_keeper: mpsc::Sender<ToKeeper>,
    news: mpsc::Sender<News>,
    state: State,
    own: Option<Subscribed>,
    work: Option<Subscribed>,
    subscribing: Option<oneshot::Receiver<Subscribed>>,
    receipts: HashMap<u64, Receipt>,
    deliveries: u64,
    room: Room,
    linked: bool,
    welcomed: bool,
    /// Since it was welcomed last.
    hellos: u32,
    /// The sign of life that the broker does not have yet.
    beating: Option<oneshot::Receiver<bool>>,
    counted: HashSet<(String, u32, u32)>,
    last: Beat,
}

impl Post {
    pub fn new(
        setup: Setup,
        transport: Arc<dyn Transport>,
        to_keeper: mpsc::Sender<ToKeeper>,
        state: State,
    ) -> Self {
        let Setup { hello, directory, .. } = setup;
        // Unique among all messages of this agent: children of one life follow each other in time.
        let prefix = format!("{}-{:x}-{}", hello.agent, hello.incarnation, std::process::id());
        let uplink = Uplink::start(transport.clone(), prefix);
        let (news, heard) = mpsc::channel(MAX_WAITING_NAMES);
        let shipper = Shipper {
            agent: hello.agent.clone(),
            logs: logs(Path::new(&directory)),
            uplink: uplink.clone(),
            to_keeper: to_keeper.clone(),
        };
        tokio::spawn(shipper.run(heard));
        Self {
            hello,
            transport,
            uplink,
            to_keeper,
            news,
            state,
            own: None,
            work: None,
            subscribing: None,
            receipts: HashMap::new(),
            deliveries: 0,
            room: Room::default(),
            linked: false,
            welcomed: false,
            hellos: 0,
            beating: None,
            counted: HashSet::new(),
            last: Beat::default(),
        }
    }

    /// Carries messages until the keeper is gone, or has let the child go (`true`).
    pub async fn run(mut self, mut from_keeper: mpsc::Receiver<ToChild>) -> bool {
        let mut health = self.transport.health();
        let mut own = self.subscribe(Address::Agent(self.hello.agent.clone()), OWN_WINDOW);
        health.mark_changed();
        loop {
            let is_healthy = tokio::select! {
                frame = from_keeper.recv() => match frame {
                    Some(ToChild::Goodbye) => {
                        self.say_goodbye().await;
                        // The keeper ends now; its socket tells when.
                        while from_keeper.recv().await.is_some() {}
                        return true;
                    }
                    Some(frame) => self.keeper_said(frame).await,
                    None => return false,
                },
                Ok(subscribed) = &mut own, if self.own.is_none() => {
                    self.own = Some(subscribed);
                    self.say_hello()
                }
                delivery = next(&mut self.own) => match delivery {
                    Some(delivery) => self.delivered(delivery, false).await,
                    None => {
                        self.own = None;
                        own = self.subscribe(Address::Agent(self.hello.agent.clone()), OWN_WINDOW);
                        Ok(())
                    }
                },
                subscribed = arrived(&mut self.subscribing) => {
                    (self.subscribing, self.work) = (None, subscribed);
                    Ok(())
                }
                delivery = next(&mut self.work), if self.room.left > 0 => match delivery {
                    Some(delivery) => self.delivered(delivery, true).await,
                    None => {
                        self.work = None;
                        self.take_place();
                        Ok(())
                    }
                },
                () = self.room.is_gone_for_long(), if self.work.is_some() => {
                    self.work = None;
                    Ok(())
                }
                Ok(()) = health.changed() => {
                    let health = health.borrow_and_update().clone();
                    self.told_health(&health).await
                }
            };
            if let Err(Overflow) = is_healthy {
                // The next child begins with nothing to say, and is told all that matters.
                tracing::error!("more is said than the broker takes: the child starts again");
                return true;
            }
        }
    }

    async fn told_health(&mut self, health: &Health) -> Result<(), Overflow> {
        let linked = matches!(health, Health::Up(_));
        if linked == self.linked {
            return Ok(());
        }
        self.linked = linked;
        self.state.readiness().linked.store(linked, Ordering::Relaxed);
        self.tell(ToKeeper::Linked(linked)).await;
        self.say_hello()
    }

    fn say_hello(&mut self) -> Result<(), Overflow> {
        if !self.linked || self.own.is_none() || self.welcomed {
            return Ok(());
        }
        self.hellos += 1;
        if self.hellos == UNANSWERED_HELLOS {
            let agent = &self.hello.agent;
            tracing::warn!(
                agent,
                "no coordinator has welcomed this agent so far: its log says why, if one listens at this broker; another \
                 agent of the same name has to end first"
            );
        }
        let hello = Hello { draining: self.last.draining, ..self.hello.clone() };
        self.sign_of_life(ToCoordinator::Hello(hello))
    }

    /// Says one at a time: what the broker has not taken yet says all that a second one would.
    fn sign_of_life(&mut self, message: ToCoordinator) -> Result<(), Overflow> {
        if let Some(beating) = &mut self.beating
            && matches!(beating.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        {
            return Ok(());
        }
        self.beating = Some(self.uplink.ask(message)?);
        Ok(())
    }

    async fn keeper_said(&mut self, frame: ToChild) -> Result<(), Overflow> {
        match frame {
            ToChild::Beat(beat) => {
                self.show(&beat);
                let Beat { sequence, draining, holds, .. } = (*beat).clone();
                self.last = *beat;
                if self.linked && self.welcomed {
                    let Hello { agent, incarnation, .. } = self.hello.clone();
                    let beat = Heartbeat { agent, incarnation, sequence, draining, holds };
                    self.sign_of_life(ToCoordinator::Heartbeat(beat))?;
                } else {
                    self.say_hello()?;
                }
                self.tell(ToKeeper::Alive).await;
            }
            ToChild::Reports { run, trace, reports } => {
                reports.iter().for_each(|report| self.count(&run, report));
                let Hello { agent, incarnation, .. } = self.hello.clone();
                let said = RunReports { agent, incarnation, run, reports };
                self.uplink.say(ToCoordinator::Reports(said), trace)?;
            }
            ToChild::Taken { delivery } => {
                if let Some(receipt) = self.receipts.remove(&delivery) {
                    self.uplink.settle(receipt)?;
                }
            }
            ToChild::Room(room) => {
                self.room.set(room);
                self.take_place();
            }
            ToChild::Started(name) => self.news.try_send(News::Started(name)).map_err(|_| Overflow)?,
            ToChild::Ended(name) => self.news.try_send(News::Ended(name)).map_err(|_| Overflow)?,
            ToChild::Silent(name) => self.news.try_send(News::Silent(name)).map_err(|_| Overflow)?,
            // A second setup, or a goodbye that the loop has seen.
            ToChild::Setup(_) | ToChild::Goodbye => {}
        }
        Ok(())
    }

    async fn delivered(&mut self, delivery: Delivery, shared: bool) -> Result<(), Overflow> {
        let Delivery { content_type, trace, body, receipt, .. } = delivery;
        let trace = trace.as_deref().and_then(TraceContext::parse);
        let said = match decode::<ToAgent>(&content_type, &body) {
            Ok(said) => said,
            Err(error) => {
                tracing::warn!(%error, "a message cannot be read: to the dead letters");
                metrics::counter!(UNREADABLE).increment(1);
                receipt.reject();
                return Ok(());
            }
        };
        match said {
            ToAgent::Orders(orders) => {
                self.take_orders(orders, trace, shared, receipt).await;
                return Ok(());
            }
            // Only work comes from a queue that agents share.
            _ if shared => {}
            ToAgent::Introduce => {
                self.welcomed = false;
                self.state.readiness().welcomed.store(false, Ordering::Relaxed);
                self.say_hello()?;
            }
            ToAgent::Welcome(welcome) if welcome.incarnation == self.hello.incarnation => {
                if !self.welcomed {
                    tracing::info!(coordinator = welcome.coordinator, "welcomed");
                }
                (self.welcomed, self.hellos) = (true, 0);
                self.state.readiness().welcomed.store(true, Ordering::Relaxed);
                let (lease_millis, heartbeat_millis) = (welcome.lease_millis, welcome.heartbeat_millis);
                self.tell(ToKeeper::Welcomed { lease_millis, heartbeat_millis }).await;
            }
            ToAgent::HeartbeatHeard { incarnation, sequence } if incarnation == self.hello.incarnation => {
                self.tell(ToKeeper::Answered { sequence }).await;
            }
            // For an earlier life of the agent.
            ToAgent::Welcome(_) | ToAgent::HeartbeatHeard { .. } => {}
            ToAgent::Drain => self.tell(ToKeeper::Drain(true)).await,
            ToAgent::Undrain => self.tell(ToKeeper::Drain(false)).await,
        }
        receipt.acknowledge();
        Ok(())
    }

    async fn take_orders(
        &mut self,
        orders: RunOrders,
        trace: Option<TraceContext>,
        shared: bool,
        receipt: Receipt,
    ) {
        if shared {
            let offers = orders.orders.iter().filter(|order| matches!(order, WireOrder::Offer(_))).count();
            self.room.set(self.room.left.saturating_sub(u32::try_from(offers).unwrap_or(u32::MAX)));
        }
        self.deliveries += 1;
        let delivery = self.deliveries;
        self.receipts.insert(delivery, receipt);
        self.tell(ToKeeper::Orders { delivery, shared, trace, orders }).await;
    }

    async fn say_goodbye(&mut self) {
        let Hello { agent, incarnation, .. } = self.hello.clone();
        if let Ok(said) = self.uplink.ask(ToCoordinator::Goodbye { agent, incarnation }) {
            let _ = tokio::time::timeout(GOODBYE_PATIENCE, said).await;
        }
        self.tell(ToKeeper::Done).await;
    }

    async fn tell(&self, frame: ToKeeper) {
        // It fails only when the keeper is gone, which its socket tells.
        let _ = self.to_keeper.send(frame).await;
    }
}
