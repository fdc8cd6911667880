//! A key is in the one answer that shows it, and nowhere else: not in the server's log at its most
//! talkative, not in what it serves, not in the data directory, not in what the command line prints.

use std::{fs, path::Path, process::Stdio};

use serde_json::{Value, json};

use crate::cli::{Server, client, holdfast, run, runtime};

fn say(server: &Server, method: &str, path: &str, key: &str, body: &Value) -> (u16, String) {
    runtime().block_on(async {
        let method = method.parse().expect("a method");
        let request = client().request(method, format!("{}{path}", server.url)).bearer_auth(key);
        let answer = request.json(body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    })
}

/// Every byte of a folder, by file.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push((path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
}

#[test]
fn no_key_is_anywhere_but_in_the_answer_that_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("stderr"));
    let mut serve = holdfast();
    serve.env("RUST_LOG", "trace").stderr(Stdio::from(fs::File::create(&log).unwrap()));
    let server = Server::start_with(&data, &mut serve);
    let mut keys = Vec::new();
    let mut shown = |(status, text): (u16, String)| {
        assert!([200, 201].contains(&status), "{text}");
        let said: Value = serde_json::from_str(&text).unwrap();
        let key = said["api_key"].as_str().expect("a key").to_owned();
        keys.push(key.clone());
        key
    };
    let body = json!({"name": "chief", "scopes": ["operate", "observe"]});
    let chief = shown(say(&server, "POST", "/v1/partners", "", &body));
    let body = json!({"name": "shop", "scopes": ["reserve"]});
    let shop = shown(say(&server, "POST", "/v1/partners", &chief, &body));
    shown(say(&server, "POST", "/v1/partners/shop/rotate", &chief, &json!({})));
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    for (method, path, key) in [
        ("GET", "/v1/partners", &chief),
        ("GET", "/v1/status", &chief),
        ("GET", "/metrics", &chief),
        ("GET", "/v1/status", &shop),
        ("GET", "/v1/orders/O/trace", &chief),
        ("POST", "/v1/partners", &chief),
        ("DELETE", "/v1/partners/shop", &chief),
        ("GET", "/v1/stock/A", &shop),
        ("GET", "/", &chief),
    ] {
        let (_, text) = say(&server, method, path, key, &body);
        seen.push((format!("{method} {path}"), text.into_bytes()));
    }
    let mut list = holdfast();
    list.args(["partner", "list", "--json", "--url", &server.url]).env("HOLDFAST_API_KEY", &chief);
    seen.push(("partner list".to_owned(), run(&mut list).with(0).out.into_bytes()));
    assert!(server.terminate().success());
    let dump = run(holdfast().args(["wal", "dump", "--data"]).arg(&data)).with(0);
    assert!(dump.out.contains("\"deed\":\"rotate\""), "{}", dump.out);
    seen.push(("wal dump".to_owned(), (dump.out + &dump.err).into_bytes()));
    files(folder.path(), &mut seen);
    assert!(seen.iter().any(|(place, bytes)| place.ends_with("stderr") && bytes.len() > 1_000));
    assert_eq!(keys.len(), 3);
    for key in keys {
        // As it stands, and without what all of them begin with.
        let text = key.strip_prefix("hf_").expect("a key").as_bytes().to_vec();
        let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        let places: Vec<_> = seen.iter().filter(|(_, bytes)| has(bytes)).map(|(p, _)| p).collect();
        assert!(places.is_empty(), "{places:?}");
    }
}
