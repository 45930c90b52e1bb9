//! A server of the tests' own that speaks the published REST definitions of Vector Search 2.0.
//!
//! It keeps objects, searches by comparing with every vector, and refuses what the service refuses,
//! or what its definitions forbid. It is no statement of what the service does beyond them.

mod filter;
mod http;
mod service;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

pub(crate) use self::http::Request;

/// The token that requests must carry.
pub(crate) const TOKEN: &str = "owner";

/// What happens to the next request instead of, or besides, an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is refused with this status and body, and nothing is done.
    Refused(u16, Value),
    /// It is answered with these bytes and nothing is done.
    Raw(Vec<u8>),
    /// It is done, and the connection ends without an answer.
    Lost,
    /// It is never answered, and nothing is done.
    Hangs,
}

impl Fault {
    /// An error of the service, as Google writes it.
    pub(crate) fn status(http: u16, name: &str) -> Self {
        Self::Refused(http, error(http, name, "secret words of the service"))
    }
}

/// The body of an error.
fn error(http: u16, name: &str, message: &str) -> Value {
    json!({"error": {"code": http, "status": name, "message": message}})
}

/// What the server keeps.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By full name.
    pub(crate) collections: BTreeMap<String, Collection>,
    /// Long-running operations, and how often they are still not done.
    pub(crate) operations: BTreeMap<String, u32>,
    /// How often an operation is looked at before it is done.
    pub(crate) slow: u32,
    /// Batches that fail write what comes before the fault: the definitions do not say.
    pub(crate) torn: bool,
    /// Distances tell the similarity.
    pub(crate) similarity: bool,
    /// Most results of an answer, whatever is asked: pages.
    pub(crate) page: Option<usize>,
}

/// A collection.
#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub(crate) body: Value,
    /// By id.
    pub(crate) objects: BTreeMap<String, Object>,
}

/// A data object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) data: serde_json::Map<String, Value>,
    pub(crate) vector: Vec<f32>,
}

/// The server. It ends with its value; connections end when their clients go.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    seen: Mutex<Vec<Request>>,
    faults: Mutex<VecDeque<Fault>>,
    over: AtomicBool,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let kept = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if kept.over.load(Ordering::SeqCst) {
                    return;
                }
                let kept = Arc::clone(&kept);
                // A client that goes in the middle ends the thread, and nothing else.
                thread::spawn(move || stream.ok().and_then(|stream| serve(stream, &kept)));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far, as they came.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// What was asked so far, without the query and the names: `POST :search`, ...
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Request::kind).collect()
    }

    pub(crate) fn forget_seen(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// The next requests meet these, in order; those after them none.
    pub(crate) fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    /// Looks at, or changes, what is kept.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.shared.state.lock().unwrap())
    }

    /// How many objects there are in all collections.
    pub(crate) fn objects(&self) -> usize {
        self.with(|state| state.collections.values().map(|one| one.objects.len()).sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves one connection to its end.
fn serve(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let request = http::read(&mut reader)?;
        shared.seen.lock().unwrap().push(request.clone());
        let fault = shared.faults.lock().unwrap().pop_front();
        let (status, body) = match &fault {
            Some(Fault::Refused(status, body)) => (*status, body.clone()),
            Some(Fault::Raw(bytes)) => {
                stream.write_all(bytes).ok()?;
                return None;
            }
            Some(Fault::Hangs) => {
                // Ends when the client closes its side.
                http::drain(&mut reader);
                return None;
            }
            Some(Fault::Lost) | None => {
                match service::answer(&mut shared.state.lock().unwrap(), &request) {
                    Ok(body) => (200, body),
                    Err(no) => (no.http, error(no.http, no.name, &no.message)),
                }
            }
        };
        if matches!(fault, Some(Fault::Lost)) {
            return None;
        }
        http::write(&mut stream, status, &body)?;
    }
}
