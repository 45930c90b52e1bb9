//! Connections: a few, shared by all calls, made when they are needed and made anew when they break.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::settings::FirestoreSettings;

/// The connections of one store.
#[derive(Debug)]
pub(crate) struct Channels {
    channels: Vec<Channel>,
    next: AtomicUsize,
}

impl Channels {
    /// Makes ready to connect; nothing is sent yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Config`: an address that is none.
    pub(crate) fn new(settings: &FirestoreSettings) -> Result<Self> {
        let config = |message: &str| Error::new(ErrorKind::Config, message);
        let address = match &settings.emulator {
            Some(host) => format!("http://{host}"),
            None => settings.endpoint.clone(),
        };
        let mut endpoint = Endpoint::from_shared(address)
            .map_err(|_| config("the address of Firestore is none: HOST:PORT or https://HOST"))?
            .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
            .http2_keep_alive_interval(Duration::from_secs(settings.keep_alive_s))
            .keep_alive_timeout(Duration::from_millis(settings.connect_timeout_ms))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            // A page of a thousand memories is more than the usual window of 64 KiB.
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 4);
        if settings.emulator.is_none() {
            endpoint = endpoint
                .tls_config(ClientTlsConfig::new().with_webpki_roots())
                .map_err(|error| config("TLS cannot be set up").with_source(error))?;
        }
        let channels = (0..settings.channels.max(1)).map(|_| endpoint.connect_lazy()).collect();
        Ok(Self { channels, next: AtomicUsize::new(0) })
    }

    /// One of them, in turn.
    pub(crate) fn next(&self) -> Channel {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.channels[turn % self.channels.len()].clone()
    }
}

/// Bytes that a server may send before it is asked for more.
const WINDOW: u32 = 4 * 1024 * 1024;
