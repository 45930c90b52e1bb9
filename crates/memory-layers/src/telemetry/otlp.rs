//! Figures and spans to an OpenTelemetry collector: OTLP over HTTP, as protobuf.
//!
//! Two threads of the exporter's own send; a call only adds to a sum, or puts its span into a
//! bounded queue, from which spans fall when it is full. So a collector that is away or slow costs
//! figures, and no call.

mod bridge;
mod client;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};
use opentelemetry::InstrumentationScope;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use super::SharedRecorder;
use crate::bounds::{self, within};
use bridge::Bridge;
use client::Client;

/// The name of the instrumentation, as in what is sent.
const SCOPE: &str = "orchestra-memory";

/// Where and how often telemetry is sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OtlpSettings {
    /// The collector: `http://` or `https://`, a host and perhaps a port and a path, to which
    /// `/v1/metrics` and `/v1/traces` are added. `http://127.0.0.1:4318`: the port of OTLP over
    /// HTTP, on this machine. It holds no password; that goes into a header.
    pub endpoint: String,
    /// Headers of each request, an API key for example. They are secrets: neither shown nor
    /// written.
    #[serde(skip_serializing)]
    pub headers: BTreeMap<String, String>,
    /// `service.name` of all that is sent. `orchestra-memory`.
    pub service_name: String,
    /// Milliseconds between two exports of figures: 100 to 3,600,000. 60,000: the interval of the
    /// OpenTelemetry specification.
    pub interval_ms: u64,
    /// Milliseconds that one request may take: 100 to 4,000. 2,000: a collector stands near; and
    /// what is sent at the end has to be sent within the five seconds that a last export gets.
    pub timeout_ms: u64,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:4318".to_owned(),
            headers: BTreeMap::new(),
            service_name: "orchestra-memory".to_owned(),
            interval_ms: 60_000,
            timeout_ms: 2_000,
        }
    }
}

impl fmt::Debug for OtlpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password or a key in an address is a fault, and not shown for that.
        let shown = if self.endpoint.contains(['@', '?']) { "(hidden)" } else { &self.endpoint };
        f.debug_struct("OtlpSettings")
            .field("endpoint", &shown)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("service_name", &self.service_name)
            .field("interval_ms", &self.interval_ms)
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

impl OtlpSettings {
    /// Every value that lies out of its range, one sentence each. No header's value is in them.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        within(&mut faults, "otlp.interval_ms", self.interval_ms, 100, 3_600_000);
        within(&mut faults, "otlp.timeout_ms", self.timeout_ms, 100, 4_000);
        if self.service_name.is_empty() {
            faults.push("otlp.service_name is empty; name the service".to_owned());
        }
        if self.endpoint.contains('@') {
            faults
                .push("otlp.endpoint holds a user or a password; put it into a header".to_owned());
        } else if !client::is_address(&self.endpoint) {
            // The address is not repeated: it may hold a key.
            faults.push(
                "otlp.endpoint is an http:// or https:// address of a host, perhaps a port and a \
                 path, and nothing behind it"
                    .to_owned(),
            );
        }
        let names = self.headers.iter().filter(|(name, value)| !client::is_header(name, value));
        faults.extend(
            names.map(|(name, _)| {
                format!("otlp.headers holds `{name}`, which is no header of HTTP")
            }),
        );
        faults
    }
}

/// The exporter: a recorder for figures, and a layer of `tracing` for spans.
///
/// What was noted and not sent yet is sent when it is closed, or dropped.
pub struct Otlp {
    meters: SdkMeterProvider,
    tracers: SdkTracerProvider,
    client: Client,
    timeout: Duration,
    bridge: Arc<Bridge>,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp").field("failures", &self.failures()).finish_non_exhaustive()
    }
}

impl Otlp {
    /// Starts the exporter's threads. Nothing is sent yet, and the collector need not be there.
    ///
    /// # Errors
    /// `Config`: all values that are out of their ranges, or an address that no request can go to.
    pub fn start(settings: &OtlpSettings) -> Result<Self> {
        bounds::refused(&settings.faults())?;
        let timeout = Duration::from_millis(settings.timeout_ms);
        let client = Client::new(timeout);
        let headers: HashMap<_, _> = settings.headers.clone().into_iter().collect();
        let base = settings.endpoint.trim_end_matches('/');
        let metrics = MetricExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_headers(headers.clone())
            .with_retry_policy(once())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(timeout)
            .with_endpoint(format!("{base}/v1/metrics"))
            .build()
            .map_err(|_| refused())?;
        let spans = SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_headers(headers)
            .with_retry_policy(once())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(timeout)
            .with_endpoint(format!("{base}/v1/traces"))
            .build()
            .map_err(|_| refused())?;
        let resource =
            Resource::builder_empty().with_service_name(settings.service_name.clone()).build();
        let interval = Duration::from_millis(settings.interval_ms);
        let reader = PeriodicReader::builder(metrics).with_interval(interval).build();
        let meters =
            SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(reader).build();
        let tracers =
            SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(spans).build();
        let scope =
            InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let bridge = Arc::new(Bridge::new(meters.meter_with_scope(scope)));
        Ok(Self { meters, tracers, client, timeout, bridge })
    }

    /// The recorder that sends figures.
    #[must_use]
    pub fn recorder(&self) -> SharedRecorder {
        self.bridge.clone()
    }

    /// A layer for the program's subscriber of `tracing`, which sends spans. It says neither which
    /// file a span comes from nor on which thread.
    #[must_use]
    pub fn spans<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.tracers.tracer(SCOPE))
            .with_location(false)
            .with_threads(false)
    }

    /// How many requests failed since it was started.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.client.failures()
    }

    /// Sends what has not been sent, and waits for it.
    ///
    /// It blocks the thread, for five seconds and twice `timeout_ms` at the most: call it from a
    /// thread that may wait. Afterwards nothing more is sent; a second close does nothing.
    ///
    /// # Errors
    /// `Unavailable`: the collector did not take it. What was noted is lost.
    pub fn close(&self) -> Result<()> {
        let before = self.failures();
        let spans = self.tracers.shutdown_with_timeout(self.timeout * 2);
        let figures = self.meters.shutdown();
        let is_sent = self.failures() == before;
        // A second close is told that the first one was: no failure.
        let ended =
            |result| !matches!(result, Err(opentelemetry_sdk::error::OTelSdkError::Timeout(_)));
        if is_sent && ended(spans) && ended(figures) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "the collector did not take the last telemetry; see otlp.endpoint",
        ))
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.close();
    }
}

/// One attempt: figures are sums, which the next export has as well.
fn once() -> RetryPolicy {
    RetryPolicy::disabled()
}

/// Without the library's text, which may repeat the address.
fn refused() -> Error {
    Error::new(ErrorKind::Config, "otlp.endpoint is refused; name http://HOST:PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_and_secrets_are_not() {
        assert!(OtlpSettings::default().faults().is_empty());
        let settings = OtlpSettings {
            endpoint: "http://me:hush@host".to_owned(),
            headers: [("bad name".to_owned(), "hush".to_owned())].into(),
            interval_ms: 1,
            ..OtlpSettings::default()
        };
        let faults = settings.faults();
        assert_eq!(faults.len(), 3, "{faults:?}");
        let told = format!("{settings:?} {faults:?} {}", Otlp::start(&settings).unwrap_err());
        assert!(!told.contains("hush"), "a secret was told");
        assert!(!serde_json::to_string(&OtlpSettings::default()).unwrap().contains("headers"));
        for endpoint in ["", "host:4318", "ftp://host", "http://", "http:// host"] {
            let settings = OtlpSettings { endpoint: endpoint.into(), ..OtlpSettings::default() };
            assert_eq!(settings.faults().len(), 1, "{endpoint}");
        }
    }
}
