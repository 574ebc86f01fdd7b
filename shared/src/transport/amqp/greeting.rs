//! Who answers at the broker's address, asked before the connections are made.
//!
//! The client library keeps what a broker says of itself to itself, and what is no broker ends there in a parser's
//! error. So we say the eight bytes that open AMQP 0-9-1, read the first frame, and close. Brokers log that as a client
//! that went away.

use super::cause::Cause;
use super::settings::{BrokerUrl, Settings};
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::uri::AMQPScheme;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A broker that takes longer to say hello is not there.
pub(super) const HANDSHAKE_SECONDS: u64 = 10;

/// Bytes of the first frame; RabbitMQ's has about 500.
const MAX_FRAME_BYTES: usize = 64 << 10;

/// Bytes of an answer that is no AMQP which are shown.
const SHOWN_BYTES: usize = 48;

const HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
const METHOD_FRAME: u8 = 1;
const TLS_ALERT: u8 = 21;

/// What the broker is: `RabbitMQ 3.10.8`.
pub(super) async fn greet(settings: &Settings) -> Result<Arc<str>, Cause> {
    let url = &settings.url;
    match timeout(Duration::from_secs(HANDSHAKE_SECONDS), exchange(settings)).await {
        Ok(Ok(frame)) => read(&frame, url),
        Ok(Err(error)) => Err(explain(&error, url)),
        Err(_) => Err(Cause::soon(format!("{} does not answer", url.place()))),
    }
}

/// The trust that `amqps://` needs.
pub(super) fn tls(settings: &Settings) -> OwnedTLSConfig {
    OwnedTLSConfig { identity: None, cert_chain: settings.certificate_authority.clone() }
}

async fn exchange(settings: &Settings) -> Result<Vec<u8>, Error> {
    let runtime = lapin::runtime::default_runtime().map_err(Error::other)?;
    let trust = tls(settings);
    let mut stream = settings.url.uri().connect_with_config_async(trust.as_ref(), &runtime).await?;
    stream.write_all(&HEADER).await?;
    stream.flush().await?;
    let mut frame = vec![0; 1024];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut frame[filled..]).await?;
        filled += read;
        let wanted = wanted_bytes(&frame[..filled]);
        if read == 0 || filled >= wanted {
            break;
        }
        if filled == frame.len() {
            frame.resize(wanted.min(MAX_FRAME_BYTES), 0);
        }
    }
    frame.truncate(filled);
    Ok(frame)
}

/// How many bytes the frame has that begins so; what is no frame is not waited for.
fn wanted_bytes(begun: &[u8]) -> usize {
    match begun {
        [METHOD_FRAME, _, _, a, b, c, d, ..] => {
            let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            size.saturating_add(8).min(MAX_FRAME_BYTES)
        }
        [METHOD_FRAME, ..] | [] => 7,
        _ => 0,
    }
}

fn read(frame: &[u8], url: &BrokerUrl) -> Result<Arc<str>, Cause> {
    let place = url.place();
    match frame {
        [] => Err(Cause::configuration(format!("{place} closes the connection at once; is it a broker?"))),
        [TLS_ALERT, 3, ..] => Err(Cause::configuration(format!("{place} wants TLS: use amqps://"))),
        [b'A', b'M', b'Q', b'P', ..] => {
            Err(Cause::configuration(format!("{place} answers, but does not speak AMQP 0-9-1")))
        }
        // Frame header, then class 10, method 10 (Connection.Start), version 0-9, and what it says of itself.
        [METHOD_FRAME, _, _, _, _, _, _, 0, 10, 0, 10, 0, 9, a, b, c, d, rest @ ..] => {
            let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            Ok(product(rest.get(..size).unwrap_or(rest)).into())
        }
        _ => {
            let shown = frame[..frame.len().min(SHOWN_BYTES)].escape_ascii();
            Err(Cause::configuration(format!("{place} answers, but not AMQP; it said: {shown}")))
        }
    }
}

/// Product and version out of a table of properties: names as short strings, values mostly as long strings.
fn product(mut table: &[u8]) -> String {
    let (mut product, mut version) = (None, None);
    while let Some((name, kind, rest)) = field(table) {
        table = match kind {
            b'S' | b'F' | b'A' => {
                let Some((size, rest)) = rest.split_first_chunk::<4>() else { break };
                let size = u32::from_be_bytes(*size) as usize;
                let Some((value, rest)) = rest.split_at_checked(size) else { break };
                match name {
                    b"product" => product = Some(words(value)),
                    b"version" => version = Some(words(value)),
                    _ => {}
                }
                rest
            }
            b't' => rest.get(1..).unwrap_or_default(),
            _ => break,
        };
    }
    let product = product.unwrap_or_else(|| "AMQP broker".to_owned());
    version.map_or(product.clone(), |version| format!("{product} {version}"))
}

fn field(table: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let (size, rest) = table.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*size))?;
    let (kind, rest) = rest.split_first()?;
    Some((name, *kind, rest))
}

/// Text that can be shown, whoever wrote it.
fn words(value: &[u8]) -> String {
    value[..value.len().min(SHOWN_BYTES)].escape_ascii().to_string()
}

fn explain(error: &Error, url: &BrokerUrl) -> Cause {
    let place = url.place();
    match error.kind() {
        ErrorKind::ConnectionRefused => Cause::soon(format!("nobody listens at {place}")),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            Cause::soon(format!("{place} broke the connection off: {error}"))
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => {
            Cause::soon(format!("{place} cannot be reached: {error}"))
        }
        _ if url.uri().scheme == AMQPScheme::AMQPS => {
            Cause::configuration(format!("no TLS with {place}: {error}"))
        }
        _ => Cause::soon(format!("{place} cannot be reached: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> BrokerUrl {
        "amqp://u:p@broker".parse().unwrap()
    }

    fn start(table: &[u8]) -> Vec<u8> {
        let mut frame = vec![METHOD_FRAME, 0, 0, 0, 0, 0, 0, 0, 10, 0, 10, 0, 9];
        frame.extend(u32::try_from(table.len()).unwrap().to_be_bytes());
        frame.extend(table);
        frame
    }

    #[test]
    fn product_and_version_are_found_behind_other_properties() {
        let table = b"\x04capsF\x00\x00\x00\x03\x01at\x07productS\x00\x00\x00\x08RabbitMQ\x04flagt\x01\
            \x07versionS\x00\x00\x00\x053.1\x1b8";
        assert_eq!(&*read(&start(table), &url()).unwrap(), "RabbitMQ 3.1\\x1b8");
        assert_eq!(&*read(&start(b""), &url()).unwrap(), "AMQP broker");
    }

    #[test]
    fn any_cut_or_changed_frame_is_answered_in_words() {
        let whole = start(b"\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x013");
        for cut in 0..whole.len() {
            let _ = read(&whole[..cut], &url());
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[cut] = value;
                let _ = (wanted_bytes(&changed), read(&changed, &url()));
            }
        }
    }

    #[test]
    fn other_servers_are_named() {
        let cause = |answer: &[u8]| read(answer, &url()).unwrap_err();
        assert!(cause(b"HTTP/1.1 400 Bad Request\r\n").text.contains("not AMQP; it said: HTTP/1.1 400"));
        assert!(cause(b"AMQP\x00\x01\x00\x00").text.contains("0-9-1"));
        assert!(cause(b"\x15\x03\x03\x00\x02\x02").text.contains("amqps://"));
        assert!(cause(b"").slow);
    }
}
