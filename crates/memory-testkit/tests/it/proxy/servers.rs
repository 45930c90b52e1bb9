//! The servers behind the proxy, and a client for the one that speaks HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::soon;

/// Frames, as RFC 9113 numbers them.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A server that sends back what it gets.
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    /// The bytes that it got.
    pub(super) received: Arc<AtomicU64>,
    /// The connections that have ended, in whatever way.
    pub(super) ended: Arc<AtomicU64>,
}

impl Echo {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = Self { address, received: Arc::default(), ended: Arc::default() };
        let (received, ended) = (Arc::clone(&echo.received), Arc::clone(&echo.ended));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (received, ended) = (Arc::clone(&received), Arc::clone(&ended));
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        received.fetch_add(count as u64, Relaxed);
                        if stream.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                    }
                    ended.fetch_add(1, Relaxed);
                });
            }
        });
        echo
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Relaxed)
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self { kind, flags, stream, payload: payload.to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The next frame; `None` at the end of the connection.
    async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await.ok()?;
        let [a, b, c, kind, flags, number @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]).try_into().unwrap()];
        stream.read_exact(&mut payload).await.ok()?;
        Some(Self { kind, flags, stream: u32::from_be_bytes(number), payload })
    }
}

/// A server that answers requests of HTTP/2, each with frames that are no answer around it.
pub(super) struct Http2 {
    pub(super) address: SocketAddr,
    /// The requests that it has done the work for.
    pub(super) worked: Arc<AtomicU64>,
    /// The answers that it may give; it does the work and begins with the headers without asking.
    pub(super) answers: Arc<Semaphore>,
}

impl Http2 {
    /// A server that may give so many answers until it is allowed more.
    pub(super) async fn start(answers: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Semaphore::new(answers));
        let server = Self { address, worked: Arc::default(), answers };
        let (worked, answers) = (Arc::clone(&server.worked), Arc::clone(&server.answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(Self::serve(stream, Arc::clone(&worked), Arc::clone(&answers)));
            }
        });
        server
    }

    pub(super) fn worked(&self) -> u64 {
        self.worked.load(Relaxed)
    }

    /// Returns when the connection ends.
    async fn serve(mut stream: TcpStream, worked: Arc<AtomicU64>, answers: Arc<Semaphore>) {
        let settings = Frame::new(SETTINGS, 0, 0, &[]).bytes();
        let mut preface = [0; PREFACE.len()];
        if stream.write_all(&settings).await.is_err()
            || stream.read_exact(&mut preface).await.is_err()
        {
            return;
        }
        assert_eq!(preface, PREFACE);
        while let Some(frame) = Frame::read(&mut stream).await {
            if frame.kind != DATA || frame.flags & END_STREAM == 0 {
                continue;
            }
            worked.fetch_add(1, Relaxed);
            let number = frame.stream;
            let alive =
                [Frame::new(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]), Frame::new(PING, 0, 0, &[7; 8])];
            let answer = [
                Frame::new(HEADERS, END_HEADERS, number, b"status"),
                Frame::new(DATA, 0, number, &frame.payload),
                Frame::new(HEADERS, END_HEADERS | END_STREAM, number, b"trailers"),
            ];
            let bytes = |frames: &[Frame]| frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>();
            if stream.write_all(&bytes(&alive)).await.is_err() {
                return;
            }
            answers.acquire().await.unwrap().forget();
            if stream.write_all(&bytes(&answer)).await.is_err() {
                return;
            }
        }
    }
}

/// A client of [`Http2`] with one connection.
pub(super) struct Client {
    stream: TcpStream,
    next: u32,
    /// The frames that it got and that were no answers.
    pub(super) others: Vec<Frame>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let hello = [PREFACE, &Frame::new(SETTINGS, 0, 0, &[]).bytes()].concat();
        stream.write_all(&hello).await.unwrap();
        Self { stream, next: 1, others: Vec::new() }
    }

    /// Sends a request, and gives its stream back. What the connection says is left to the answer.
    pub(super) async fn send(&mut self, body: &[u8]) -> u32 {
        let number = self.next;
        self.next += 2;
        let headers = Frame::new(HEADERS, END_HEADERS, number, b"method and path").bytes();
        let body = Frame::new(DATA, END_STREAM, number, body).bytes();
        let _ = self.stream.write_all(&[headers, body].concat()).await;
        number
    }

    /// The body of the answer, or `None` when the connection ends before it is whole.
    pub(super) async fn answer(&mut self, number: u32) -> Option<Vec<u8>> {
        soon("an answer or the end", async {
            let mut body = Vec::new();
            loop {
                let frame = Frame::read(&mut self.stream).await?;
                if frame.stream != number {
                    self.others.push(frame);
                    continue;
                }
                if frame.kind == DATA {
                    body.extend(&frame.payload);
                }
                if frame.flags & END_STREAM != 0 {
                    return Some(body);
                }
                // Whoever waits for an end must know of every frame of the answer.
                self.others.push(frame);
            }
        })
        .await
    }

    /// A request and its answer.
    pub(super) async fn ask(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        let number = self.send(body).await;
        self.answer(number).await
    }
}
