//! A broker of one agent, in the test's process: what the agent says comes out of a channel, what it confirms and settles
//! is decided here. Its [`Pipe`] is the transport in the agent's child.

use bincode::{Decode, Encode};
use bytes::Bytes;
use cairn_shared::transport::{
    Address, Delivery, Health, Message, PublishError, Receipt, Settle, SubscribeError, Transport,
    TransportFuture,
};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use tokio::sync::{mpsc as channel, oneshot, watch};

/// What the agent's side says.
#[derive(Debug, Encode, Decode)]
pub enum Up {
    Publish { number: u64, to: String, content_type: String, trace: Option<String>, body: Vec<u8> },
    Subscribe { from: String },
    Settled { tag: u64, how: Settled },
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Settled {
    Acknowledged,
    Rejected,
    Requeued,
}

/// What the broker says.
#[derive(Debug, Encode, Decode)]
pub enum Down {
    Confirm {
        number: u64,
    },
    Deliver {
        tag: u64,
        from: String,
        content_type: String,
        trace: Option<String>,
        body: Vec<u8>,
        redelivered: bool,
    },
}

pub fn name(address: &Address) -> String {
    match address {
        Address::Agent(id) => format!("agent/{id}"),
        Address::Work(capability) => format!("work/{capability}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn write(mut to: &UnixStream, frame: &impl Encode) -> io::Result<()> {
    let body = bincode::encode_to_vec(frame, bincode::config::standard()).unwrap();
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(body);
    to.write_all(&bytes)
}

fn read<T: Decode<()>>(mut from: &UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut body)?;
    Ok(bincode::decode_from_slice(&body, bincode::config::standard()).unwrap().0)
}

/// The test's side.
pub struct Broker {
    pub said: mpsc::Receiver<Up>,
    connection: Arc<Mutex<Option<UnixStream>>>,
    tags: u64,
    /// What deliveries carry.
    pub trace: Option<String>,
}

impl Broker {
    pub fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let connection = Arc::new(Mutex::new(None));
        let (sender, said) = mpsc::channel();
        let newest = Arc::clone(&connection);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                *newest.lock().unwrap() = Some(stream.try_clone().unwrap());
                while let Ok(up) = read::<Up>(&stream) {
                    if let Up::Publish { number, .. } = &up {
                        let _ = write(&stream, &Down::Confirm { number: *number });
                    }
                    if sender.send(up).is_err() {
                        return;
                    }
                }
            }
        });
        Self { said, connection, tags: 0, trace: None }
    }

    /// Delivers a message; its tag.
    pub fn deliver(&mut self, to: &Address, (content_type, body): (&str, &[u8]), redelivered: bool) -> u64 {
        self.tags += 1;
        let (from, content_type, body) = (name(to), content_type.to_owned(), body.to_vec());
        let (tag, trace) = (self.tags, self.trace.clone());
        let frame = Down::Deliver { tag, from, content_type, trace, body, redelivered };
        // A connection that is gone loses it, as a broker that is wiped would.
        if let Some(stream) = &*self.connection.lock().unwrap() {
            let _ = write(stream, &frame);
        }
        self.tags
    }
}

/// The agent's side.
pub struct Pipe {
    stream: Arc<Mutex<UnixStream>>,
    shared: Arc<Shared>,
    health: watch::Receiver<Health>,
}

#[derive(Default)]
struct Shared {
    confirms: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    subscribers: Mutex<HashMap<String, channel::Sender<Delivery>>>,
}

#[derive(Debug)]
struct Settler {
    stream: Arc<Mutex<UnixStream>>,
    tag: u64,
}

impl Settler {
    fn settle(&self, how: Settled) {
        let _ = write(&self.stream.lock().unwrap(), &Up::Settled { tag: self.tag, how });
    }
}

impl Settle for Settler {
    fn acknowledge(self: Box<Self>) {
        self.settle(Settled::Acknowledged);
    }

    fn reject(self: Box<Self>) {
        self.settle(Settled::Rejected);
    }

    fn requeue(self: Box<Self>) {
        self.settle(Settled::Requeued);
    }
}

impl Pipe {
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        let incoming = stream.try_clone().unwrap();
        let stream = Arc::new(Mutex::new(stream));
        let shared = Arc::new(Shared::default());
        let (tell, health) = watch::channel(Health::Up("a test".into()));
        let (of_thread, settling) = (Arc::clone(&shared), Arc::clone(&stream));
        std::thread::spawn(move || {
            while let Ok(down) = read::<Down>(&incoming) {
                match down {
                    Down::Confirm { number } => {
                        if let Some(confirm) = of_thread.confirms.lock().unwrap().remove(&number) {
                            let _ = confirm.send(());
                        }
                    }
                    Down::Deliver { tag, from, content_type, trace, body, redelivered } => {
                        let receipt = Receipt::new(Box::new(Settler { stream: Arc::clone(&settling), tag }));
                        let (id, body) = (tag.to_string(), Bytes::from(body));
                        let delivery =
                            Delivery { id, content_type, trace, body, redelivered, origin: None, receipt };
                        let subscriber = of_thread.subscribers.lock().unwrap().get(&from).cloned();
                        if let Some(subscriber) = subscriber {
                            let _ = subscriber.blocking_send(delivery);
                        }
                    }
                }
            }
            let _ = tell.send(Health::Down("the test is over".into()));
        });
        Self { stream, shared, health }
    }
}

impl Transport for Pipe {
    fn publish(&self, to: &Address, message: Message) -> TransportFuture<'static, Result<(), PublishError>> {
        let (confirm, confirmed) = oneshot::channel();
        let stream = self.stream.lock().unwrap();
        let mut confirms = self.shared.confirms.lock().unwrap();
        let number = confirms.keys().max().unwrap_or(&0) + 1;
        confirms.insert(number, confirm);
        drop(confirms);
        let Message { content_type, trace, body, .. } = message;
        let frame = Up::Publish { number, to: name(to), content_type, trace, body: body.to_vec() };
        let written = write(&stream, &frame).is_ok();
        Box::pin(async move {
            if written && confirmed.await.is_ok() { Ok(()) } else { std::future::pending().await }
        })
    }

    fn subscribe<'a>(
        &'a self,
        from: &'a Address,
        window: u16,
    ) -> TransportFuture<'a, Result<channel::Receiver<Delivery>, SubscribeError>> {
        let (sender, receiver) = channel::channel(window.max(1).into());
        self.shared.subscribers.lock().unwrap().insert(name(from), sender);
        let _ = write(&self.stream.lock().unwrap(), &Up::Subscribe { from: name(from) });
        Box::pin(async move { Ok(receiver) })
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    fn close(&self) -> TransportFuture<'_, ()> {
        Box::pin(async {})
    }
}
