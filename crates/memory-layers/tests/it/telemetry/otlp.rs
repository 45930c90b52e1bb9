//! OTLP: what a collector gets, and what a call sees of one that is away.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use memory_core::ErrorKind;
use memory_layers::{Operation, Otlp, OtlpSettings, Scope};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{clock, layer, one};

/// A request as a collector gets it.
struct Request {
    path: String,
    key: Option<String>,
    body: Vec<u8>,
}

/// A collector that answers 200 to so many connections, one request each, and ends.
struct Collector {
    address: String,
    requests: Receiver<Request>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn start(connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                answer(stream.unwrap(), &sender);
            }
        });
        Self { address, requests, thread }
    }
}

fn answer(stream: TcpStream, sender: &Sender<Request>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let (mut length, mut key) = (0, None);
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "api-key" => key = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    sender.send(Request { path, key, body }).unwrap();
    let mut stream = reader.into_inner();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
}

fn settings(endpoint: &str) -> OtlpSettings {
    let json = serde_json::json!({
        "endpoint": endpoint,
        "headers": { "api-key": "a-key" },
        "timeout_ms": 1_000,
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_collector_gets_the_documented_histogram_and_the_spans() {
    let collector = Collector::start(2);
    let otlp = Otlp::start(&settings(&collector.address)).unwrap();
    let clock = clock();
    let layer = layer(&otlp.recorder(), clock.clone(), Scope::Call);
    let subscriber = tracing_subscriber::registry().with(otlp.spans());
    tracing::subscriber::with_default(subscriber, || {
        one(&layer, &clock, Operation::Fetch, Duration::from_millis(20), || Ok(vec![])).unwrap();
    });
    otlp.close().unwrap();
    otlp.close().unwrap();
    collector.thread.join().unwrap();
    let requests: Vec<_> = collector.requests.iter().collect();
    assert!(requests.iter().all(|request| request.key.as_deref() == Some("a-key")));
    let body = |path: &str| {
        &*requests.iter().find(|request| request.path == path).expect("it was sent").body
    };

    let figures = ExportMetricsServiceRequest::decode(body("/v1/metrics")).unwrap();
    let metrics = &figures.resource_metrics[0].scope_metrics[0].metrics;
    let duration =
        metrics.iter().find(|metric| metric.name == "db.client.operation.duration").unwrap();
    assert_eq!(duration.unit, "s");
    let Some(Data::Histogram(histogram)) = &duration.data else { panic!("no histogram") };
    let point = &histogram.data_points[0];
    assert_eq!(point.explicit_bounds, [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]);
    assert_eq!((point.count, point.bucket_counts[3], point.sum), (1, 1, Some(0.02)));
    let attributes: Vec<_> = point.attributes.iter().map(|pair| pair.key.as_str()).collect();
    for key in ["db.system.name", "db.operation.name", "orchestra_memory.outcome"] {
        assert!(attributes.contains(&key), "{attributes:?}");
    }

    let spans = ExportTraceServiceRequest::decode(body("/v1/traces")).unwrap();
    let span = &spans.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((span.name.as_str(), span.kind), ("fetch", 3));
    let keys: Vec<_> = span.attributes.iter().map(|pair| pair.key.as_str()).collect();
    assert!(keys.contains(&"db.operation.name"), "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains("file") || key.contains("thread")), "{keys:?}");
}

#[test]
fn a_collector_that_is_away_fails_no_call_and_is_told_at_the_end() {
    // A port that nobody listens on: it was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let otlp = Otlp::start(&settings(&format!("http://{address}"))).unwrap();
    let clock = clock();
    let layer = layer(&otlp.recorder(), clock.clone(), Scope::Call);
    for _ in 0..100 {
        one(&layer, &clock, Operation::Fetch, Duration::ZERO, || Ok(vec![])).unwrap();
    }
    assert_eq!(otlp.close().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(otlp.failures(), 1);
}

#[test]
fn dropping_sends_what_was_noted() {
    let collector = Collector::start(1);
    let clock = clock();
    {
        let otlp = Otlp::start(&settings(&collector.address)).unwrap();
        let layer = layer(&otlp.recorder(), clock.clone(), Scope::Call);
        one(&layer, &clock, Operation::Count, Duration::ZERO, || Ok(vec![])).unwrap();
    }
    collector.thread.join().unwrap();
    let request = collector.requests.recv().unwrap();
    let figures = ExportMetricsServiceRequest::decode(&*request.body).unwrap();
    let metrics = &figures.resource_metrics[0].scope_metrics[0].metrics;
    assert!(metrics.iter().any(|metric| metric.name == "db.client.operation.duration"));
}
