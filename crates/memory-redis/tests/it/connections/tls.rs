//! Connections with TLS: a way to a real server that ends TLS before it, with certificates of the
//! test's own.

use std::path::PathBuf;
use std::sync::Arc;

use memory_core::traits::RecordStoreExt as _;
use memory_core::{ErrorKind, Outcome};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::server::{Server, open};
use crate::records::rig::{id, item, put_one, tenant};

/// An authority, its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server's side of TLS under a name.
    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What ends TLS before a server, and ends with this.
struct Gate {
    port: u16,
    task: JoinHandle<()>,
}

impl Gate {
    async fn before(server: &Server, acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, behind) = (listener.local_addr().unwrap().port(), server.port);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Who does not believe the certificate goes.
                    let Ok(mut inside) = acceptor.accept(stream).await else { return };
                    let Ok(mut outside) = TcpStream::connect(("127.0.0.1", behind)).await else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_the_authority_vouches_for_is_used_and_no_other() {
    let Some(server) = Server::start(&["--save", "", "--requirepass", "geheim-77"]) else { return };
    let (ours, other) = (Authority::new(), Authority::new());
    let gate = Gate::before(&server, ours.acceptor("localhost")).await;
    let url = format!("rediss://:geheim-77@localhost:{}", gate.port);
    let store = open(&url, json!({"ca_file": ours.file()})).await.unwrap();
    let context = tenant("t");
    put_one(&store, &context, item("a", "x")).await.unwrap();
    let found = store.fetch_one(&context, &id("a")).await.unwrap().unwrap();
    assert_eq!(found.content(), "x");
    assert!(!format!("{store:?}").contains("geheim"));

    let refused = [
        ("another authority", url.clone(), json!({"ca_file": other.file()})),
        ("the public ones", url.clone(), json!({})),
        (
            "another name",
            format!("rediss://:geheim-77@127.0.0.1:{}", gate.port),
            json!({"ca_file": ours.file()}),
        ),
        ("no TLS", format!("redis://:geheim-77@localhost:{}", gate.port), json!({})),
        (
            "a wrong password",
            format!("rediss://:wrong@localhost:{}", gate.port),
            json!({"ca_file": ours.file()}),
        ),
    ];
    for (what, url, changed) in refused {
        let error = open(&url, changed).await.unwrap_err();
        let kind = match what {
            "a wrong password" => ErrorKind::PermissionDenied,
            // What answers does not speak Redis.
            "no TLS" => ErrorKind::Unexpected,
            _ => ErrorKind::Unavailable,
        };
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotApplied), "{what}: {error}");
        let told = format!("{error} {error:?}");
        assert!(!told.contains("geheim") && !told.contains("wrong@"), "{what}: {told}");
    }
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, holds: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, holds).unwrap();
        path
    };
    let large = vec![b'-'; 1024 * 1024 + 1];
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for path in [
        folder.path().join("missing"),
        folder.path().to_path_buf(),
        file("empty", b""),
        file("text", b"no certificate"),
        file("large", &large),
        file("broken", broken),
    ] {
        let error = open("rediss://localhost:1", json!({"ca_file": path})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}: {error}", path.display());
        assert!(error.message().contains("ca_file"), "{error}");
    }
    let plain = open("redis://localhost:1", json!({"ca_file": file("x", b"")})).await.unwrap_err();
    assert_eq!(plain.kind(), ErrorKind::Config);
    assert!(plain.message().contains("rediss://"), "{plain}");
}
