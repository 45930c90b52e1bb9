//! The provider `http`: what the settings say reaches the server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

use orchestra_memory::{
    Arm, EmbedderSource, EmbeddingSettings, Memory, Provider, SearchRequest, Secret, Settings,
};
use serde_json::{Value, json};

use crate::support::{block_on, mock_backend, note};

/// Answers requests for embeddings with a vector that says how many letters a text has, until its
/// port is no longer used; tells each request's head and body.
fn server() -> (u16, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    break;
                }
            }
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let data: Vec<Value> = body["input"]
                .as_array()
                .unwrap()
                .iter()
                .enumerate()
                .map(|(index, text)| {
                    json!({"index": index, "embedding": [text.as_str().unwrap().len(), 1]})
                })
                .collect();
            let answer = json!({"data": data}).to_string();
            let head_of_answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                answer.len()
            );
            let mut stream = stream;
            stream.write_all(format!("{head_of_answer}{answer}").as_bytes()).unwrap();
            if tell.send((head, body)).is_err() {
                return;
            }
        }
    });
    (port, told)
}

#[test]
fn the_settings_reach_the_server() {
    let (port, told) = server();
    let mut settings = Settings::default();
    let embedding = &mut settings.embedding;
    *embedding = EmbeddingSettings::new("a-model", 2);
    embedding.provider = Some(Provider::Http);
    embedding.revision = "7".to_owned();
    embedding.http.url = Some(format!("http://127.0.0.1:{port}/v1"));
    embedding.http.api_key = Some(Secret::new("sk-secret"));
    embedding.http.query_prefix = "query: ".to_owned();
    embedding.http.document_prefix = "passage: ".to_owned();
    embedding.http.send_dimensions = true;
    let shown = format!("{settings:?}");
    let store =
        memory_testkit::ReferenceStore::new(std::sync::Arc::new(memory_core::SystemClock::new()));
    let backend = orchestra_memory::Backend::of(std::sync::Arc::new(store));
    let builder = Memory::builder().settings(settings).backend(backend);
    let memory = block_on(builder.open()).unwrap();
    let info = memory.embedder().unwrap();
    assert_eq!(info.source, EmbedderSource::Http);
    assert_eq!(info.space.to_string(), "2/cosine/a-model@7");
    let tenant = memory.default_tenant();
    block_on(tenant.add(note("Ada drinks tea"))).unwrap();
    let (head, body) = told.recv().unwrap();
    assert!(head.starts_with("POST /v1/embeddings "), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer sk-secret"), "the key is sent");
    assert_eq!((&body["model"], &body["dimensions"]), (&json!("a-model"), &json!(2)));
    assert_eq!(body["input"], json!(["passage: Ada drinks tea"]));
    let answer = block_on(tenant.search(&SearchRequest::new().with_text("beverages"))).unwrap();
    assert_eq!(answer.arms_used, [Arm::Keyword, Arm::Vector]);
    assert_eq!(answer.hits.len(), 1);
    assert_eq!(told.recv().unwrap().1["input"], json!(["query: beverages"]));
    let state = format!("{:?} {memory:?}", block_on(memory.embedding_state()));
    assert!(!shown.contains("sk-secret") && !state.contains("sk-secret"), "{shown} {state}");
}

#[test]
fn what_the_server_would_refuse_is_refused_at_opening() {
    let mut settings = Settings::default();
    settings.embedding = EmbeddingSettings::new("a-model", 2);
    settings.embedding.provider = Some(Provider::Http);
    for (url, key, part) in [
        ("ftp://host/v1", None, "http"),
        ("http://elsewhere.example/v1", Some("sk-secret"), "https"),
        ("https://host/v1", Some("sk-\nsecret"), "API key"),
    ] {
        settings.embedding.http.url = Some(url.to_owned());
        settings.embedding.http.api_key = key.map(Secret::new);
        let backend = mock_backend(
            memory_core::traits::MockRecordStore::new(),
            memory_core::traits::MockStoreMeta::new(),
        );
        let builder = Memory::builder().settings(settings.clone()).backend(backend);
        let error = block_on(builder.open()).unwrap_err();
        assert_eq!(error.kind(), orchestra_memory::ErrorKind::Config);
        assert!(error.message().contains(part), "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
