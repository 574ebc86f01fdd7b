//! Bodies that are made while they are sent.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Bytes that are sent at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for the client.
const CHUNKS: usize = 4;

/// A JSON body that `write` writes on a thread where it may take a while; no more of it is held than a few chunks.
/// A client that goes away ends it.
pub(super) fn json_stream(
    write: impl FnOnce(&mut Chunks) -> Result<(), serde_json::Error> + Send + 'static,
) -> Response {
    let (sender, mut receiver) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut chunks = Chunks { sender, buffer: Vec::new() };
        let written = write(&mut chunks).map_err(io::Error::from).and_then(|()| chunks.flush());
        if let Err(error) = written {
            // An end that is missing tells the client that the body is not whole.
            let _ = chunks.sender.blocking_send(Err(error));
        }
    });
    let body = Body::from_stream(stream::poll_fn(move |cx| receiver.poll_recv(cx)));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Where a body is written to.
pub(super) struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
