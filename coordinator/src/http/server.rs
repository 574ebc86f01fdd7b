//! The interface on a socket: TLS, bounds on connections, an end that does not wait for ever.

mod connection;

use super::context::{Api, Parts, Rules};
use super::limits::{DRAIN_DEADLINE, HEADER_TIMEOUT, MAX_CONNECTIONS};
use super::router;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use connection::Guarded;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Where a coordinator listens unless it is told otherwise: on this machine only.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7420);

/// How often counters of tokens that are not used any more are thrown away.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address.
    pub listen: SocketAddr,
    /// With TLS.
    pub tls: Option<TlsFiles>,
    /// Listen on an address that others reach although what is said can be read on its way.
    pub insecure: bool,
    /// Names under which it may be asked besides `localhost` and addresses.
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: DEFAULT_LISTEN, tls: None, insecure: false, hosts: Vec::new() }
    }
}

/// Files in PEM form.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, with those between it and its root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why the interface does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Others would reach it, and could read tokens on their way.
    #[error(
        "{listen} can be reached by others, and there is no TLS: name a certificate and its key, listen on 127.0.0.1, or say --insecure"
    )]
    Insecure {
        /// The address.
        listen: SocketAddr,
    },
    /// Certificate and key cannot be used.
    #[error("certificate {} and key {} cannot be used", certificate.display(), key.display())]
    Tls {
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The socket failed.
    #[error("the interface at {listen} has failed")]
    Failed {
        /// The address.
        listen: SocketAddr,
        /// How.
        #[source]
        source: io::Error,
    },
}

/// The interface, bound to its address; it answers once [`serve`](Self::serve) is awaited.
pub struct Server {
    api: Api,
    listener: std::net::TcpListener,
    address: SocketAddr,
    tls: Option<(RustlsConfig, TlsFiles)>,
}

/// Reads the certificate of a running server again.
#[derive(Clone)]
pub struct Reload {
    tls: Option<(RustlsConfig, TlsFiles)>,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// The settings are refused, the certificate cannot be used, or the address cannot be had.
    pub async fn bind(settings: &Settings, parts: Parts) -> Result<Self, ServeError> {
        let listen = settings.listen;
        let is_private = listen.ip().is_loopback();
        if !is_private && settings.tls.is_none() && !settings.insecure {
            return Err(ServeError::Insecure { listen });
        }
        let tls = match &settings.tls {
            None => None,
            Some(files) => {
                let config = RustlsConfig::from_pem_file(&files.certificate, &files.key).await;
                Some((config.map_err(|source| unusable(files, source))?, files.clone()))
            }
        };
        let failed = |source| ServeError::Listen { listen, source };
        let listener = std::net::TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let rules =
            Rules { hosts: settings.hosts.clone(), open_metrics: is_private, requests_per_second: None };
        Ok(Self { api: router::api(parts, rules), listener, address, tls })
    }

    /// The address, with the port that was chosen if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What reads the certificate again, for SIGHUP.
    #[must_use]
    pub fn reload(&self) -> Reload {
        Reload { tls: self.tls.clone() }
    }

    /// Answers until the parts' `shutdown` is cancelled. Then nothing new is accepted, streams end, and what is being
    /// answered has a bounded time to end.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn serve(self) -> Result<(), ServeError> {
        let Self { api, listener, address, tls } = self;
        let failed = |source| ServeError::Failed { listen: address, source };
        let handle = axum_server::Handle::new();
        let shutdown = api.parts.shutdown.clone();
        let _watch = Watch::start(api.clone(), handle.clone(), shutdown);
        let service = router::router_of(api).into_make_service();
        let guard = Guarded::new(Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        let mut server = axum_server::from_tcp(listener)
            .map_err(failed)?
            .handle(handle)
            .first_request_timeout(HEADER_TIMEOUT);
        server.http_builder().http1().header_read_timeout(HEADER_TIMEOUT);
        let served = match tls {
            None => server.acceptor(guard).serve(service).await,
            Some((config, _)) => {
                server.acceptor(RustlsAcceptor::new(config).acceptor(guard)).serve(service).await
            }
        };
        served.map_err(failed)
    }
}

impl Reload {
    /// Reads the certificate and its key again; new connections get them. Where they cannot be used, those before stay
    /// in force.
    ///
    /// # Errors
    /// They cannot be used.
    pub async fn reload(&self) -> Result<(), ServeError> {
        let Some((config, files)) = &self.tls else { return Ok(()) };
        let read = config.reload_from_pem_file(&files.certificate, &files.key).await;
        read.map_err(|source| unusable(files, source))
    }
}

fn unusable(files: &TlsFiles, source: io::Error) -> ServeError {
    ServeError::Tls { certificate: files.certificate.clone(), key: files.key.clone(), source }
}

/// What goes on beside the answers; ends with them.
struct Watch(tokio::task::JoinHandle<()>);

impl Watch {
    fn start(api: Api, handle: axum_server::Handle<SocketAddr>, shutdown: CancellationToken) -> Self {
        Self(tokio::spawn(async move {
            let sweep = async {
                loop {
                    tokio::time::sleep(SWEEP_INTERVAL).await;
                    api.rate.retain_recent();
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => handle.graceful_shutdown(Some(DRAIN_DEADLINE)),
                () = sweep => {}
            }
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
