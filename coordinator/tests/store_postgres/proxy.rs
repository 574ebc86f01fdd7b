//! A way to the server that breaks when it is told to, at the call that appends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// What is to be lost with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Loss {
    /// The answer: the server has committed by then.
    Answer = 1,
    /// The call: the server never sees it.
    Call = 2,
}

/// Passes bytes on between clients and a server, on a port of its own.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The loss that is to come, or 0.
    armed: AtomicU8,
    lost: AtomicU32,
}

impl Proxy {
    pub fn new(server_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), shared: Arc::default() };
        let shared = proxy.shared.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", server_port)).unwrap();
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                pass_between(client, server, &shared);
            }
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next connection that appends breaks.
    pub fn arm(&self, loss: Loss) {
        self.shared.armed.store(loss as u8, Ordering::Release);
    }

    /// How many have broken.
    pub fn lost(&self) -> u32 {
        self.shared.lost.load(Ordering::Acquire)
    }
}

fn pass_between(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let appends = Arc::new(AtomicBool::new(false));
    let up = (client.try_clone().unwrap(), server.try_clone().unwrap(), shared.clone(), appends.clone());
    std::thread::spawn(move || {
        let (client, server, shared, appends) = up;
        pass(client, server, |bytes| {
            // The statement is prepared once on a connection; from then on that one appends.
            if bytes.windows(12).any(|window| window == b"FROM append(") {
                appends.store(true, Ordering::Release);
            }
            appends.load(Ordering::Acquire) && shared.breaks(Loss::Call)
        });
    });
    let shared = shared.clone();
    std::thread::spawn(move || {
        pass(server, client, |_| appends.load(Ordering::Acquire) && shared.breaks(Loss::Answer));
    });
}

impl Shared {
    fn breaks(&self, loss: Loss) -> bool {
        let breaks = self.armed.compare_exchange(loss as u8, 0, Ordering::AcqRel, Ordering::Acquire).is_ok();
        self.lost.fetch_add(u32::from(breaks), Ordering::AcqRel);
        breaks
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, breaks: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if read == 0 || breaks(&buffer[..read]) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
