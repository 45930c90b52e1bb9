//! Settings from files and variables, as `settings` and `doctor` show them, and `--metrics`.

use serde_json::{Value, json};

use crate::world::World;

fn shown(world: &World, variables: &[(&str, &str)], args: &[&str]) -> Vec<Value> {
    let mut command = world.command(&[&["--json", "settings"], args].concat());
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn one(lines: &[Value], setting: &str) -> Value {
    let mut line = lines.iter().find(|line| line["setting"] == setting).unwrap().clone();
    line.as_object_mut().unwrap().remove("variable").unwrap();
    line
}

#[test]
fn each_setting_is_shown_with_where_it_comes_from_and_no_secret() {
    let world = World::new();
    world.settings("tenant = \"acme\"\n[write]\nbatch_size = 7\nsweep_step = 8\n");
    let variables = [
        ("ORCHESTRA_MEMORY__WRITE__BATCH_SIZE", "9"),
        ("ORCHESTRA_MEMORY__EMBEDDING__HTTP__API_KEY", "sk-secret"),
        ("ORCHESTRA_MEMORY_EMBEDDING_PROVIDER", "none"),
    ];
    let lines = shown(&world, &variables, &["--tenant", "mine"]);
    let expected = |setting: &str, value: &str, source: &str, from: Value| {
        let wanted = json!({ "setting": setting, "value": value, "source": source, "from": from });
        assert_eq!(one(&lines, setting), wanted);
    };
    expected("write.batch_size", "9", "environment", variables[0].0.into());
    expected("write.sweep_step", "8", "file", Value::Null);
    expected("write.update_attempts", "8", "default", Value::Null);
    expected("embedding.provider", "\"none\"", "environment", variables[2].0.into());
    assert_eq!(one(&lines, "tenant")["value"], "mine");
    assert_eq!(one(&lines, "tenant")["source"], "command_line");
    assert_eq!(one(&lines, "embedding.http.api_key")["source"], "environment");
    assert!(!format!("{lines:?}").contains("sk-secret"));
    let changed = shown(&world, &variables, &["--changed"]);
    assert!(changed.len() == 6 && changed.len() < lines.len(), "{changed:?}");
    let run = world.run(&["settings"]);
    assert!(run.out.contains("write.sweep_step") && run.out.contains("(file)"), "{}", run.out);
    assert!(!world.path("memory.db").exists(), "no store is opened");
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_doctor_has_a_check_for_each() {
    let world = World::new();
    world.settings("[write]\nbatch_size = 0\nsweepstep = 1\n[read]\npage_size = \"x\"\n");
    let error = world.error(&["stats"], 9);
    let message = error["message"].as_str().unwrap();
    for part in ["write.batch_size", "did you mean `sweep_step`?", "line 5"] {
        assert!(message.contains(part), "{message}");
    }
    let run = world.run(&["doctor", "--json"]);
    let faults =
        run.out.lines().filter(|line| line.contains("\"failed\"") && line.contains("check\""));
    assert_eq!((run.code, faults.count()), (9, 3), "{}", run.out);
    let other = World::new();
    let mut command = other.command(&["settings"]);
    let output = command.env("ORCHESTRA_MEMORY__WRITE__BATCHSIZE", "sk-secret").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(9));
    assert!(text.contains("did you mean `ORCHESTRA_MEMORY__WRITE__BATCH_SIZE`?"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn figures_are_written_where_the_build_has_them() {
    let world = World::new();
    world.add("a", "one");
    let path = world.path("figures.txt");
    let run = world.run(&["list", "--metrics", path.to_str().unwrap()]);
    if cfg!(feature = "prometheus") {
        assert_eq!(run.code, 0, "{run:?}");
        let text = std::fs::read_to_string(path).unwrap();
        let figure = "db_client_operation_duration";
        assert!(text.contains(figure) && text.contains("sqlite"), "{text}");
        assert!(!text.contains("one") || !text.contains("content"), "{text}");
        let run = world.run(&["list", "--metrics", "-"]);
        assert!(run.err.contains(figure) && !run.out.contains(figure), "{run:?}");
    } else {
        assert_eq!(run.code, 8, "{run:?}");
        assert!(run.err.contains("feature `prometheus`") && !path.exists(), "{run:?}");
    }
}

#[test]
fn figures_are_sent_where_the_build_can() {
    let world = World::new();
    world.add("a", "one");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    if !cfg!(feature = "otlp") {
        let run = world.run(&["list", "--otlp", &address]);
        assert_eq!(run.code, 8, "{run:?}");
        assert!(run.err.contains("feature `otlp`"), "{run:?}");
        return;
    }
    let (requests, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = requests.send(collect(&mut stream.unwrap()));
        }
    });
    let run = world.run(&["list", "--otlp", &address]);
    assert_eq!(run.code, 0, "{run:?}");
    let seen: Vec<_> = seen.try_iter().collect();
    let figures = seen.iter().find(|(path, _)| path == "/v1/metrics").expect("figures");
    let holds = |name: &str| figures.1.windows(name.len()).any(|part| part == name.as_bytes());
    assert!(holds("db.client.operation.duration") && holds("sqlite"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let run = world.run(&["list", "--otlp", &away]);
    assert!(run.code != 0 && run.err.contains("collector"), "{run:?}");
}

/// Takes one request of HTTP in and answers it: its path and body.
fn collect(stream: &mut std::net::TcpStream) -> (String, Vec<u8>) {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(answer).unwrap();
    (path, body)
}

#[test]
fn stats_tell_what_the_layers_counted() {
    let world = World::new();
    world.add("a", "one");
    let stats = world.object(&["stats"]);
    let layers = &stats["layers"];
    assert_eq!(layers["store"]["guard"]["broken"], 0, "{stats}");
    // An embedded store has no retries and no limit of the layers' making.
    assert_eq!((&layers["store"]["retry"], &layers["embedder"]), (&Value::Null, &Value::Null));
    let mut command = world.command(&["--json", "stats"]);
    let output = command.env("ORCHESTRA_MEMORY__LAYERS__APPLY", "all").output().unwrap();
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
    let store = &stats["layers"]["store"];
    assert!(store["retry"]["calls"].as_u64() > Some(0), "{stats}");
    assert_eq!(store["retry"]["calls"], store["retry"]["attempts"]);
    assert_eq!(store["limit"]["rejected"], 0);
}
