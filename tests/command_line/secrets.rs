//! No secret where people look: a real server with every kind of credentials, at partners that repeat the
//! whole of each request, headers and all, in what they say. Whatever an operator can read afterwards is
//! searched for every secret, as it is and as it travels: the server's own log at its most talkative, its
//! pages, metrics, dead letters and traces, what the command line prints, and every byte of the data
//! directory.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::cli::{Server, holdfast, run, runtime};
use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Every secret, by how it is used. A sink for each is named after it.
const SECRETS: [(&str, &str); 9] = [
    ("bearer", "bearer-swordfish-1"),
    ("basic", "basic-swordfish-2"),
    ("header", "header-swordfish-3"),
    ("query", "query&swordfish/4"),
    ("oauth2", "oauth2-swordfish-5"),
    ("own-header", "own-swordfish-6"),
    ("url", "url-swordfish-7"),
    ("url-query", "asked-swordfish-10"),
    ("signed", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
];
/// What the token endpoint gives out.
const TOKEN: &str = "token-swordfish-8";
/// Who calls the server, and who sends hooks to it.
const API_KEY: &str = "an-api-key-swordfish-9-of-some-length";
const HOOK: &str = "whsec_c3dvcmRmaXNoLXN3b3JkZmlzaC1zd29yZGZpc2g=";
const USER: &str = "somebody";

fn secret(kind: &str) -> &'static str {
    SECRETS.iter().find(|(known, _)| *known == kind).expect("a secret").1
}

/// Everything that must not be read anywhere.
fn hidden() -> Vec<String> {
    let mut all: Vec<String> = SECRETS.iter().map(|(_, secret)| (*secret).to_owned()).collect();
    all.extend([TOKEN, API_KEY, HOOK].map(str::to_owned));
    let basic = |kind| STANDARD.encode(format!("{USER}:{}", secret(kind)));
    all.extend(["basic", "url", "oauth2"].map(basic));
    // As it stands in a query.
    all.push("query%26swordfish%2F4".to_owned());
    all
}

/// Refuses whatever comes, and repeats all of it.
async fn parrot(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let (method, uri, headers) = (head.method, head.uri, head.headers);
    if uri.path() == "/token" {
        return axum::Json(
            json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 600}),
        )
        .into_response();
    }
    let said = repeated(&method, &uri, &headers, &body);
    let status = match uri.path() {
        "/failing" => StatusCode::INTERNAL_SERVER_ERROR,
        "/denying" | "/no-token" => StatusCode::UNAUTHORIZED,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, [("x-you-said", said.replace('\n', " ").replace('\r', ""))], said).into_response()
}

fn repeated(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> String {
    let mut said = format!("{method} {uri}\n");
    for (name, value) in headers {
        said += &format!("{name}: {}\n", value.to_str().unwrap_or("?"));
    }
    said + &String::from_utf8_lossy(body)
}

fn configuration(port: u16) -> String {
    let base = format!("http://127.0.0.1:{port}");
    let mut toml = format!(
        "[[partners]]\nname = \"shop\"\napi_key_env = \"SHOP_KEY\"\n[partners.hook]\nsecret = \"{HOOK}\"\n"
    );
    for path in ["refusing", "failing", "denying"] {
        for (kind, secret) in SECRETS {
            let (mut url, mut more) = (format!("{base}/{path}"), String::new());
            match kind {
                "bearer" => {
                    more = format!("connector.auth = {{ kind = \"bearer\", token = \"{secret}\" }}")
                }
                "basic" => {
                    more = format!(
                        "connector.auth = {{ kind = \"basic\", user = \"{USER}\", password = \"{secret}\" }}"
                    );
                }
                "header" => {
                    more = format!(
                        "connector.auth = {{ kind = \"header\", header = \"x-key\", api_key = \"{secret}\" }}"
                    );
                }
                "query" => {
                    more = format!(
                        "connector.auth = {{ kind = \"query\", parameter = \"key\", api_key = \"{secret}\" }}"
                    );
                }
                "oauth2" => {
                    // Where the partner fails, its token endpoint does too, and repeats what it was told.
                    let tokens = if path == "failing" { "no-token" } else { "token" };
                    more = format!(
                        "connector.auth = {{ kind = \"oauth2\", token_url = \"{base}/{tokens}\", \
                         client_id = \"{USER}\", client_secret = \"{secret}\" }}"
                    );
                }
                "own-header" => more = format!("headers = {{ x-own = \"{secret}\" }}"),
                "url-query" => url += &format!("?token={secret}"),
                "url" => url = url.replace("http://", &format!("http://{USER}:{secret}@")),
                _ => more = format!("signing_secret = \"{secret}\""),
            }
            toml += &format!(
                "[[sinks]]\nname = \"{path}-{kind}\"\ndomain = \"inventory\"\nurl = \"{url}\"\n\
                 window_ms_max = 10\nretry_initial_ms = 5\nretry_max_ms = 50\n{more}\n"
            );
        }
    }
    toml
}

/// What was read somewhere, and where.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    fn files(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => self.files(&path),
                false => self.add(path.display().to_string(), fs::read(&path).unwrap()),
            }
        }
    }

    /// What of it has a text.
    fn places(&self, text: &str) -> Vec<&str> {
        let text = text.as_bytes();
        let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        self.0.iter().filter(|(_, bytes)| has(bytes)).map(|(place, _)| place.as_str()).collect()
    }
}

/// Asks the server as the shop.
fn ask(server: &Server, path: &str) -> String {
    runtime().block_on(async {
        let request =
            crate::cli::client().get(format!("{}{path}", server.url)).bearer_auth(API_KEY);
        request.send().await.expect("an answer").text().await.expect("a body")
    })
}

fn asked(server: &Server, path: &str) -> Value {
    serde_json::from_str(&ask(server, path)).expect("JSON")
}

/// Sets stock, which every sink is told of, and sells some.
fn sell(server: &Server) {
    let send = |method, path: &str, body: Value| {
        runtime().block_on(async {
            let request = crate::cli::client().request(method, format!("{}{path}", server.url));
            let request = request.bearer_auth(API_KEY).header("idempotency-key", "k").json(&body);
            request.send().await.expect("an answer").status().as_u16()
        })
    };
    assert_eq!(send(Method::PUT, "/v1/stock/A/BER", json!({"on_hand": 10})), 200);
    let order = json!({"order_id": "O-1", "currency": "EUR",
        "lines": [{"sku": "A", "quantity": 1, "unit_price": 100}]});
    assert_eq!(send(Method::POST, "/v1/orders", order), 201);
}

/// Every sink has tried, and every refusing partner has refused.
fn suffered(server: &Server) -> bool {
    let sinks = asked(server, "/v1/sinks");
    sinks["sinks"].as_array().expect("sinks").iter().all(|sink| {
        let attempts = &sink["attempts"];
        let (field, kind) = match sink["name"].as_str().and_then(|name| name.split_once('-')) {
            Some(("refusing", kind)) => ("refused", kind),
            Some(("failing", kind)) => ("failed", kind),
            Some((_, kind)) => ("denied", kind),
            None => panic!("{sink}"),
        };
        // The one whose token is refused is refused itself.
        let denied = kind == "oauth2" && attempts["denied"].as_u64() > Some(0);
        attempts[field].as_u64() > Some(1)
            || (attempts[field] == 1 && field == "denied")
            || denied
            || (field == "refused" && sink["dead_letters"].as_u64() > Some(0))
    })
}

fn commands(seen: &mut Seen, server: &Server, letters: &[String]) {
    let mut command = |arguments: &[&str]| {
        let mut command = holdfast();
        command.args(arguments).args(["--url", &server.url]).env("HOLDFAST_API_KEY", API_KEY);
        let ended = run(&mut command);
        seen.add(arguments.join(" "), ended.out + &ended.err);
    };
    command(&["sinks", "list"]);
    command(&["sinks", "list", "--json"]);
    command(&["dead-letters", "list"]);
    command(&["dead-letters", "list", "--json"]);
    letters.iter().for_each(|letter| command(&["dead-letters", "show", letter]));
    command(&["trace", "O-1"]);
}

#[test]
fn no_secret_is_in_anything_that_is_written_or_shown() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    runtime.spawn(async move { axum::serve(listener, Router::new().fallback(parrot)).await });
    let (config, log) = (folder.path().join("holdfast.toml"), folder.path().join("stderr"));
    let data = folder.path().join("data");
    fs::write(&config, configuration(port)).unwrap();
    let mut serve = holdfast();
    serve.env("HOLDFAST_CONFIG", &config).env("SHOP_KEY", API_KEY).env("RUST_LOG", "trace");
    serve.stderr(Stdio::from(fs::File::create(&log).unwrap()));
    let server = Server::start_with(&data, &mut serve);
    sell(&server);
    let began = Instant::now();
    while !suffered(&server) {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", ask(&server, "/v1/sinks"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut seen = Seen::default();
    let letters = asked(&server, "/v1/dead-letters")["dead_letters"].clone();
    let id = |letter: &Value| letter["id"].as_str().expect("an id").to_owned();
    let letters: Vec<_> = letters.as_array().expect("letters").iter().map(id).collect();
    for path in [
        "/v1/sinks",
        "/metrics",
        "/v1/status",
        "/v1/dead-letters",
        "/v1/orders/O-1/trace",
        "/v1/configuration",
        "/v1/configuration/history",
        "/",
    ] {
        seen.add(path, ask(&server, path));
    }
    for letter in &letters {
        let path = format!("/v1/dead-letters/{letter}");
        seen.add(&path, ask(&server, &path));
    }
    commands(&mut seen, &server, &letters);
    let check = run(holdfast().args(["check-config", "--config"]).arg(&config));
    seen.add("check-config", check.with(0).out);
    let mut tries = holdfast();
    tries.args(["connector", "try", "--sink", "refusing-url-query", "--config"]).arg(&config);
    seen.add("connector try", run(&mut tries).with(0).out);
    assert_eq!(server.terminate().code(), Some(0));
    let dump = run(holdfast().args(["wal", "dump", "--data"]).arg(&data));
    seen.add("wal dump", dump.with(0).out);
    seen.add("stderr", fs::read(&log).unwrap());
    seen.files(&data);

    for place in ["/v1/configuration", "check-config", "connector try"] {
        assert!(seen.places("refusing?(hidden)").contains(&place), "{place}: no address was shown");
    }
    // The partners' words are there, and what stood for a secret in them.
    assert!(letters.len() >= SECRETS.len(), "{letters:?}");
    for place in ["/v1/dead-letters", "wal dump", "stderr"] {
        assert!(seen.places("(hidden)").contains(&place), "{place}: nothing was repeated");
    }
    // Whoever is denied is an alert: in the log, and among the metrics.
    assert_eq!(seen.places("the partner refuses us: the sink is paused"), ["stderr"]);
    let (_, metrics) = &seen.0[1];
    let metrics = String::from_utf8_lossy(metrics);
    let denied = metrics.lines().filter(|line| {
        line.starts_with("holdfast_sink_running{")
            && line.contains("denying-")
            && line.ends_with(" 0")
    });
    assert_eq!(denied.count(), SECRETS.len(), "{metrics}");
    for secret in hidden() {
        assert_eq!(seen.places(&secret), Vec::<&str>::new(), "{secret}");
    }
}
