//! Another configuration for a running server: whole or not at all, written down, taken back; and what
//! `check-config --against` says of it before.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use axum::http::HeaderMap;
use holdfast::model::signature::KeyHash;
use serde_json::{Value, json};

use super::{
    cli::{self, Ended, Server, get, holdfast, run},
    shop::{Receiver, serve, sink, until},
};

/// A server with one sink, and two receivers of which it may speak to either.
struct House {
    server: Server,
    folder: tempfile::TempDir,
    receiver: Receiver,
}

impl House {
    fn start() -> Self {
        let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
        let server = serve(folder.path(), &config(&receiver, "old", ""));
        Self { server, folder, receiver }
    }

    /// Writes a configuration beside the server's own.
    fn file(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("new.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn reload(&self, text: &str, more: &[&str]) -> Ended {
        self.server.reload(&self.file(text), more)
    }

    fn sell(&self, n: u32) {
        let put = json!({"on_hand": n});
        let url = format!("{}/v1/stock/TEE-{n}/BER", self.server.url);
        let sent =
            cli::runtime().block_on(async { cli::client().put(url).json(&put).send().await });
        assert_eq!(sent.unwrap().status().as_u16(), 200);
    }

    /// The bodies that came in under a path.
    fn bodies(&self, path: &str) -> Vec<Value> {
        let got = self.receiver.got().into_iter().filter(|(name, ..)| name == path);
        got.map(|(_, _, body)| body).collect()
    }
}

/// The sink `erp`, at a path of the receiver, under settings of its own.
fn config(receiver: &Receiver, path: &str, more: &str) -> String {
    let url = format!("{}/{path}", receiver.url);
    let text = sink("erp", "inventory", &receiver.url);
    text.replace(&format!("{}/erp", receiver.url), &url) + more
}

const TEMPLATE: &str = "[sinks.connector]\nbody = '{\"v\": {{ lines | length }}}'\n";

#[test]
fn an_address_and_a_template_are_changed_while_it_runs_and_taken_back() {
    let house = House::start();
    house.sell(1);
    until("the first batch", || house.bodies("old").len() == 1);
    let new = config(&house.receiver, "new", TEMPLATE);
    let told = house.reload(&new, &[]).with(0).out;
    assert!(told.contains("version 2 is in force") && told.contains("sinks.erp.url: "), "{told}");
    house.sell(2);
    until("the first by the template", || house.bodies("new").len() == 1);
    assert_eq!(house.bodies("new"), [json!({"v": 1})]);
    house.server.config(&["rollback", "1", "--reason", "it was wrong"]).with(0);
    house.sell(3);
    until("one as at first", || house.bodies("old").len() == 2);
    assert_eq!(house.bodies("old")[1]["lines"][0]["sku"], "TEE-3");
    let history = house.server.versions();
    let told: Vec<_> = history.iter().map(|v| (&v["version"], &v["state"], &v["reason"])).collect();
    let [current, past] = [json!("current"), json!("past")];
    let reasons = [json!("the first"), json!("a test"), json!("it was wrong")];
    assert_eq!(
        told,
        [
            (&json!(1), &past, &reasons[0]),
            (&json!(2), &past, &reasons[1]),
            (&json!(3), &current, &reasons[2]),
        ]
    );
    let keys: Vec<_> =
        history[1]["changes"].as_array().unwrap().iter().map(|c| &c["key"]).collect();
    assert_eq!(keys, ["sinks.erp.connector.body", "sinks.erp.url"]);
    let told = house.server.config(&["history"]).with(0).out;
    assert!(told.contains("3 current since ") && told.contains("it was wrong"), "{told}");
}

/// The history outlives the process and its checkpoints; that the file says something else than what was in
/// force last is written down too.
#[test]
fn the_history_outlives_the_process() {
    let house = House::start();
    house.reload(&config(&house.receiver, "new", ""), &[]).with(0);
    let House { server, folder, receiver } = house;
    assert_eq!(server.terminate().code(), Some(0));
    let server = serve(folder.path(), &config(&receiver, "old", ""));
    let house = House { server, folder, receiver };
    let history = house.server.versions();
    assert_eq!(history.len(), 3);
    assert_eq!((&history[2]["by"], &history[2]["state"]), (&json!("start"), &json!("current")));
    assert_eq!(history[2]["changes"][0]["key"], "sinks.erp.url");
    house.server.config(&["rollback", "2", "--reason", "again"]).with(0);
    house.sell(1);
    until("a batch", || house.bodies("new").len() == 1);
}

#[test]
fn what_needs_a_restart_is_refused_with_all_the_rest() {
    let house = House::start();
    let more = "timeout_ms = 500\n[server]\nthreads = 3\n[engine]\nlines_max = 9\n";
    let told = house.reload(&config(&house.receiver, "new", more), &[]).with(3).err;
    assert!(
        told.contains("needs_restart") && told.contains("engine.lines_max, server.threads"),
        "{told}"
    );
    let told = house.reload(&config(&house.receiver, "new", "timeout_ms = 0\n"), &[]).with(3).err;
    assert!(told.contains("malformed") && told.contains("timeout_ms"), "{told}");
    let told = house.reload(&config(&house.receiver, "old", ""), &[]).with(3).err;
    assert!(told.contains("is the one in force"), "{told}");
    let told = house.server.config(&["rollback", "9", "--reason", "?"]).with(3).err;
    assert!(told.contains("version 9"), "{told}");
    house.sell(1);
    until("a batch where it always went", || house.bodies("old").len() == 1);
    assert!(house.server.versions().is_empty() && house.bodies("new").is_empty());
}

fn freeze() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
    let (from, until) = (at(now - 60), at(now + 3_600));
    format!("[[freezes]]\nfrom = \"{from}\"\nuntil = \"{until}\"\nreason = \"the sale\"\n")
}

#[test]
fn in_a_freeze_window_nothing_is_changed_unless_it_is_forced() {
    let house = House::start();
    house.reload(&config(&house.receiver, "old", &freeze()), &[]).with(0);
    let other = config(&house.receiver, "new", &freeze());
    let told = house.reload(&other, &[]).with(3).err;
    assert!(told.contains("frozen") && told.contains("the sale"), "{told}");
    assert_eq!(house.server.versions().len(), 2);
    house.reload(&other, &["--force"]).with(0);
    assert_eq!(house.server.versions()[2]["forced"], true);
}

/// A secret is in force after a rollback and stands nowhere: in no answer, in no file of the log.
#[test]
fn secrets_are_kept_out_of_the_history() {
    let house = House::start();
    let secret = "whsec_c3dvcmRmaXNoIHN3b3JkZmlzaCBzd29yZGZpc2g=";
    let signed = |path| config(&house.receiver, path, &format!("signing_secret = \"{secret}\"\n"));
    house.reload(&signed("old"), &[]).with(0);
    house.reload(&signed("new"), &[]).with(0);
    house.server.config(&["rollback", "2", "--reason", "back"]).with(0);
    house.sell(1);
    until("a batch", || house.bodies("old").len() == 1);
    let (_, headers, _) = house.receiver.got().remove(0);
    assert!(headers.contains_key("webhook-signature"));
    let told = house.server.config(&["history", "--json"]).with(0).out;
    assert!(told.contains("(hidden)") && !told.contains("c3dvcmRm"), "{told}");
    // It is in force no more, and was not kept.
    house.reload(&config(&house.receiver, "old", ""), &[]).with(0);
    let told = house.server.config(&["rollback", "2", "--reason", "back"]).with(3).err;
    assert!(told.contains("sinks.erp.signing_secret"), "{told}");
    let shown = get(&format!("{}/v1/configuration", house.server.url));
    assert!(!shown.to_string().contains("c3dvcmRm"));
    assert!(!holds(&house.folder.path().join("data"), b"c3dvcmRm"));
    assert!(holds(&house.folder.path().join("data"), b"signing_secret"));
}

/// Whether any file below a folder holds a text.
fn holds(folder: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| match entry.path() {
        path if path.is_dir() => holds(&path, text),
        path => std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text),
    })
}

#[test]
fn check_config_says_what_a_file_would_change() {
    let house = House::start();
    let path = house.file(&config(
        &house.receiver,
        "new",
        "[server]\nbatch_max = 7\n[log]\ngroup_us = 7\n",
    ));
    let against = |other: &str| {
        let words = ["check-config", "--config", path.to_str().unwrap(), "--against", other];
        run(holdfast().args(words)).with(0).out
    };
    let own = house.folder.path().join("holdfast.toml");
    for told in [against(&house.server.url), against(own.to_str().unwrap())] {
        assert!(told.contains("  sinks.erp.url: \"") && told.contains("/new\" (live)"), "{told}");
        assert!(told.contains("  server.batch_max: 1000 -> 7 (live)"), "{told}");
        assert!(told.contains("  log.group_us: 1000 -> 7 (restart)"), "{told}");
        // A server's address and folder are those of its command line.
        assert!(told.ends_with("need a restart\n") && told.contains("2 apply live, "), "{told}");
    }
}

#[test]
fn sighup_reads_the_file_again() {
    let house = House::start();
    let own = house.folder.path().join("holdfast.toml");
    std::fs::write(own, config(&house.receiver, "new", "")).unwrap();
    let kill = format!("kill -HUP {}", house.server.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    until("it is applied", || house.server.versions().len() == 2);
    assert_eq!(house.server.versions()[1]["by"], "SIGHUP");
    house.sell(1);
    until("a batch", || house.bodies("new").len() == 1);
}

#[test]
fn a_connector_is_tried_without_its_partner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdfast.toml");
    let text = "[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"http://127.0.0.1:1\"\n\
                headers = { x-token = \"swordfish\" }\n[sinks.connector]\npath = \"/b/{{ part_id }}\"\n\
                body = '{\"first\": {{ lines[0].sku }}, \"n\": {{ lines | length }}}'\n\
                [[sinks.connector.rules]]\nstatus = [418]\nthen = \"refused\"\nlines = true\n";
    std::fs::write(&path, text).unwrap();
    let tried = |more: &[&str]| {
        let words = ["connector", "try", "--sink", "erp", "--config", path.to_str().unwrap()];
        run(holdfast().args(words).args(more))
    };
    let told = tried(&[]).with(0).out;
    assert!(told.starts_with("POST http://127.0.0.1:1/b/sample-3f9c-000123\n"), "{told}");
    assert!(told.contains("x-token: (hidden)\n") && !told.contains("swordfish"), "{told}");
    assert!(told.contains("{\"first\": \"TEE-M\", \"n\": 6}"), "{told}");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/v1/golden/batch.inventory.json");
    let told = tried(&["--events", golden, "--answer", "503"]).with(0).out;
    assert!(told.contains("/b/erp-3f9c-000123") && told.contains("\"n\": 4"), "{told}");
    assert!(
        told.contains("the answer means: failed and retried: the partner answered 503"),
        "{told}"
    );
    let answer = folder.path().join("answer.json");
    let rejected = json!({"rejected": [{"line_id": "l.2", "reason": "no such article"}]});
    std::fs::write(&answer, rejected.to_string()).unwrap();
    let told = tried(&["--answer", &format!("418,{}", answer.display())]).with(0).out;
    assert!(told.contains("refused for its content; lines named: l.2 (no such article)"), "{told}");
    assert!(tried(&["--answer", "99"]).with(2).err.contains("--answer"));
    std::fs::write(&answer, "[1").unwrap();
    assert!(tried(&["--events", answer.to_str().unwrap()]).with(2).err.contains("events: "));
}

#[test]
fn a_hook_is_tried_without_its_partner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdfast.toml");
    let rules = include_str!("../../examples/stripe.toml");
    std::fs::write(&path, rules).unwrap();
    let message = folder.path().join("event.json");
    let tried = |partner: &str, told: &Value| {
        std::fs::write(&message, told.to_string()).unwrap();
        let words = ["hook", "try", "--partner", partner, "--config", path.to_str().unwrap()];
        run(holdfast().args(words).arg("--message").arg(&message))
    };
    let mut event = json!({"id": "evt_1", "type": "charge.succeeded", "data": {"object": {
        "id": "ch_1", "amount": 4_488, "amount_captured": 4_488, "captured": true, "currency": "eur",
        "metadata": {"order_id": "O-1"}}}});
    let told = tried("stripe", &event).with(0).out;
    let (operation, fields) = told.split_once('\n').unwrap();
    let fields: Value = serde_json::from_str(fields).unwrap();
    assert_eq!((operation, &fields["order_id"]), ("settlement", &json!("O-1")), "{told}");
    assert_eq!(fields["amount"], 4_488);
    event["data"]["object"]["metadata"] = json!({"order_id": "x".repeat(1_000)});
    assert!(tried("stripe", &event).with(2).err.contains("would refuse it: malformed: "));
    event["data"]["object"]["metadata"] = json!({});
    let refused = tried("stripe", &event).with(2).err;
    assert!(refused.contains("`order_id` has no value"), "{refused}");
    assert!(tried("nobody", &event).with(2).err.contains("--partner: "));
}

const KEYS: [(&str, &str); 2] = [("shop", "0123456789abcdefghij"), ("ops", "abcdefghij0123456789")];

fn hash(key: &str) -> String {
    KeyHash::of(key).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A partner of the file, by its name.
fn partner(name: &str, more: &str) -> String {
    let (_, key) = KEYS.iter().find(|(known, _)| *known == name).unwrap();
    let hash = hash(key);
    format!("[[partners]]\nname = \"{name}\"\napi_key_sha256 = \"{hash}\"\n{more}")
}

/// What is asked with a partner's key: status, and the headers.
fn asked(house: &House, name: &str, path: &str, body: &Value) -> (u16, HeaderMap) {
    let (_, key) = KEYS.iter().find(|(known, _)| *known == name).unwrap();
    let request = cli::client().post(format!("{}{path}", house.server.url)).bearer_auth(key);
    let request = request.header("idempotency-key", format!("{body}")).json(body);
    let answer = cli::runtime().block_on(async { request.send().await }).unwrap();
    (answer.status().as_u16(), answer.headers().clone())
}

/// Partners of the file come, go and get other terms; whoever asked is held to what is in force.
#[test]
fn partners_of_the_file_change_while_it_runs() {
    let house = House::start();
    let with = |partners: &[String]| config(&house.receiver, "old", &partners.concat());
    house.sell(1);
    let both = [partner("shop", "scopes = [\"reserve\"]\n"), partner("ops", "")];
    house.reload(&with(&both), &[]).with(0);
    let cart =
        |n: u32| json!({"lines": [{"sku": "TEE-1", "quantity": 1}], "customer": format!("c-{n}")});
    let change = |text: String| {
        let body = json!({"toml": text, "reason": "a test"});
        asked(&house, "ops", "/v1/configuration", &body).0
    };
    assert_eq!(asked(&house, "shop", "/v1/reservations", &cart(1)).0, 201);
    assert_eq!(asked(&house, "shop", "/v1/configuration", &json!({})).0, 403);
    let unknown = house.reload(&with(&both), &[]).with(3).err;
    assert!(unknown.contains("unauthenticated"), "{unknown}");
    // Other terms count from the next request on.
    let both = [partner("shop", "scopes = [\"observe\"]\n"), partner("ops", "")];
    assert_eq!(change(with(&both)), 200);
    assert_eq!(asked(&house, "shop", "/v1/reservations", &cart(2)).0, 403);
    let both = [partner("shop", "rate_per_s = 1\n"), partner("ops", "")];
    assert_eq!(change(with(&both)), 200);
    let (_, headers) = asked(&house, "shop", "/v1/reservations", &cart(3));
    assert!(headers.contains_key("ratelimit"), "{headers:?}");
    assert_eq!(asked(&house, "shop", "/v1/reservations", &cart(4)).0, 429);
    // What is not changed of it goes on being counted.
    let more = [both[0].clone(), partner("ops", "body_bytes_max = \"1 MiB\"\n")];
    assert_eq!(change(with(&more)), 200);
    assert_eq!(asked(&house, "shop", "/v1/reservations", &cart(5)).0, 429);
    // One whose name the log has is refused, with all the rest.
    let added = json!({"name": "late", "scopes": ["observe"]});
    assert_eq!(asked(&house, "ops", "/v1/partners", &added).0, 201);
    let hash = hash("zzzzzzzzzzzzzzzzzzzzzz");
    let late = format!("[[partners]]\nname = \"late\"\napi_key_sha256 = \"{hash}\"\n");
    assert_eq!(change(with(&[more[0].clone(), more[1].clone(), late])), 400);
    // Gone, its key is nobody's.
    assert_eq!(change(with(&more[1..])), 200);
    assert_eq!(asked(&house, "shop", "/v1/reservations", &cart(6)).0, 401);
}

/// What is shown hidden comes back as it was shown, beside an edit: the key still opens, the sink still signs and
/// says its header. What stands for nothing that is in force is refused by name, and so is a secret that would go
/// elsewhere; no answer tells one.
#[test]
fn what_is_hidden_comes_back_as_it_is() {
    const SECRETS: [&str; 2] =
        ["whsec_c3dvcmRmaXNoIHN3b3JkZmlzaCBzd29yZGZpc2g=", "swordfish-in-a-header"];
    let house = House::start();
    let more = format!(
        "signing_secret = \"{}\"\nheaders = {{ x-token = \"{}\" }}\n{}",
        SECRETS[0],
        SECRETS[1],
        partner("ops", "")
    );
    house.reload(&config(&house.receiver, "old", &more), &[]).with(0);
    let ask = |method: reqwest::Method, body: &Value| {
        let url = format!("{}/v1/configuration", house.server.url);
        let request = cli::client().request(method, url).bearer_auth(KEYS[1].1).json(body);
        let (status, text) = cli::runtime().block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        });
        for secret in SECRETS.iter().chain(&[hash(KEYS[1].1).as_str()]) {
            assert!(!text.contains(secret), "{text}");
        }
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    let shown = || ask(reqwest::Method::GET, &Value::Null).1["toml"].as_str().unwrap().to_owned();
    let change =
        |text: &str| ask(reqwest::Method::POST, &json!({"toml": text, "reason": "a test"}));
    let text = shown();
    assert_eq!(text.matches("\"(hidden)\"").count(), 3, "{text}");
    let (status, told) = change(&text);
    assert_eq!((status, &told["code"]), (409, &json!("wrong_state")), "nothing is another: {told}");
    let edited = text.replace("batch_max = 1000", "batch_max = 999");
    assert_ne!(edited, text);
    let (status, told) = change(&edited);
    assert_eq!(status, 200, "{told}");
    let keys: Vec<_> = told["changes"].as_array().unwrap().iter().map(|c| &c["key"]).collect();
    assert_eq!(keys, ["server.batch_max"]);
    // A sink that begins anew has all of it, too.
    let (status, told) = change(&edited.replace("lines_max = 5000", "lines_max = 4999"));
    assert_eq!(status, 200, "{told}");
    let put = json!({"on_hand": 7});
    let url = format!("{}/v1/stock/TEE-1/BER", house.server.url);
    let put = cli::client().put(url).bearer_auth(KEYS[1].1).json(&put);
    let put = cli::runtime().block_on(async { put.send().await }).unwrap();
    assert_eq!(put.status().as_u16(), 200);
    until("a batch", || house.bodies("old").len() == 1);
    let (_, headers, _) = house.receiver.got().remove(0);
    assert!(headers.contains_key("webhook-signature"), "{headers:?}");
    assert_eq!(headers["x-token"], SECRETS[1]);
    assert_eq!(shown().matches("\"(hidden)\"").count(), 3);

    let refused = |text: String, named: &[&str]| {
        let (status, told) = change(&text);
        assert_eq!((status, &told["code"]), (400, &json!("malformed")), "{told}");
        for name in named {
            assert!(told["detail"].as_str().unwrap().contains(name), "{name}: {told}");
        }
    };
    let of_sink = ["sinks.erp2.headers.x-token", "sinks.erp2.signing_secret", "give the value"];
    refused(text.replace("name = \"erp\"", "name = \"erp2\""), &of_sink);
    refused(text.replace("name = \"ops\"", "name = \"other\""), &["partners.other.api_key_sha256"]);
    let new = text.replace(&format!("{}/old", house.receiver.url), "http://127.0.0.1:9/");
    refused(new, &["sinks.erp.headers.x-token", "sinks.erp.signing_secret", "goes where it went"]);
}

#[test]
fn limits_change_while_it_runs() {
    let house = House::start();
    let reload = |more: &str| house.reload(&config(&house.receiver, "old", more), &[]).with(0);
    let put = |bytes: usize| {
        let url = format!("{}/v1/stock/TEE-1/BER", house.server.url);
        let body = json!({"on_hand": 1}).to_string() + &" ".repeat(bytes);
        let request = cli::client().put(url).header("content-type", "application/json");
        let request = request.body(body);
        cli::runtime().block_on(async { request.send().await }).unwrap().status().as_u16()
    };
    assert_eq!(put(5_000), 200);
    reload("[server]\nbody_bytes_max = \"4 KiB\"\nshutdown_grace_ms = 500\n");
    assert_eq!(put(5_000), 413);
    reload("");
    assert_eq!(put(5_000), 200);
}

/// A level that is as it was keeps what was seen of it; a new one counts what comes after it.
#[test]
fn service_levels_change_while_it_runs() {
    let house = House::start();
    let level = |name: &str| {
        format!(
            "[[service_levels]]\nname = \"{name}\"\nobjective = \"reserve_latency\"\n\
             within_ms = 10000\ntarget_percent = 99\n"
        )
    };
    let reload = |more: &str| house.reload(&config(&house.receiver, "old", more), &[]).with(0);
    let levels = || {
        let said = get(&format!("{}/v1/service-levels", house.server.url));
        let levels = said["service_levels"].as_array().unwrap().iter();
        let told = |level: &Value| {
            (level["name"].as_str().unwrap().to_owned(), level["total"].as_u64().unwrap())
        };
        levels.map(told).collect::<Vec<_>>()
    };
    let told = |names: &[(&str, u64)]| {
        names.iter().map(|(name, total)| ((*name).to_owned(), *total)).collect::<Vec<_>>()
    };
    house.sell(7);
    let reserve = || {
        let cart = json!({"lines": [{"sku": "TEE-7", "quantity": 1000}]});
        let url = format!("{}/v1/reservations", house.server.url);
        assert_eq!(cli::post(&url, "k", &cart).0, 409);
    };
    // It looks once a second.
    let looks = || std::thread::sleep(Duration::from_millis(2_500));
    (0..20).for_each(|_| reserve());
    reload(&(level("up") + &level("down")));
    looks();
    assert_eq!(levels(), told(&[("up", 0), ("down", 0)]));
    (0..20).for_each(|_| reserve());
    until("all is counted", || levels() == told(&[("up", 20), ("down", 20)]));
    reload(&(level("new") + &level("up")));
    assert_eq!(levels(), told(&[("new", 0), ("up", 20)]));
    looks();
    assert_eq!(levels(), told(&[("new", 0), ("up", 20)]));
    reserve();
    until("both count", || levels() == told(&[("new", 1), ("up", 21)]));
    // A promise about a sink goes with the sink.
    let of_sink = "[[service_levels]]\nname = \"erp\"\nobjective = \"sink_lag\"\nsink = \"erp\"\n\
                   within_ms = 60000\ntarget_percent = 99\n";
    reload(of_sink);
    let path = house.file(of_sink);
    let words = ["reload", "--reason", "gone", "--file", path.to_str().unwrap()];
    let told = house.server.config(&words).with(3).err;
    assert!(told.contains("malformed") && told.contains("service_levels"), "{told}");
}

/// Books that have a list of tax codes take no order with another one, from the moment that they have it.
#[test]
fn the_tax_codes_of_the_books_change_while_it_runs() {
    let house = House::start();
    let books = |codes: &str| {
        let url = format!("{}/books", house.receiver.url);
        let more = format!(
            "[[sinks]]\nname = \"books\"\ndomain = \"finance\"\nurl = \"{url}\"\n\
             filter = {{ currencies = [\"EUR\"] }}\naccounts = {{ tax_codes = [{codes}] }}\n"
        );
        config(&house.receiver, "old", &more)
    };
    house.reload(&books(""), &[]).with(0);
    house.sell(9);
    let order = |id: &str, currency: &str, codes: &[&str]| {
        let line = |code: &&str| json!({"sku": "TEE-9", "quantity": 1, "unit_price": 119, "tax_code": code});
        let lines: Vec<_> = codes.iter().map(line).collect();
        let body = json!({"order_id": id, "currency": currency, "lines": lines});
        cli::post(&format!("{}/v1/orders", house.server.url), id, &body)
    };
    assert_eq!(order("O-1", "EUR", &["DE-7"]).0, 201, "any code is taken");
    let told = house.reload(&books("\"DE-19\""), &[]).with(0).out;
    assert!(told.contains("sinks.books.accounts.tax_codes: ") && told.contains("(live)"), "{told}");
    let (status, said) = order("O-2", "EUR", &["DE-19", "DE-7"]);
    assert_eq!(
        (status, &said["code"], &said["field"]),
        (400, &json!("malformed"), &json!("lines[1].tax_code"))
    );
    assert_eq!(order("O-2", "EUR", &["DE-19"]).0, 201);
    assert_eq!(order("O-3", "USD", &["DE-7"]).0, 201, "those books don't get it");
    assert_eq!(order("O-1", "EUR", &["DE-7"]).0, 201, "what was answered is answered again");
    let cart = json!({"lines": [{"sku": "TEE-9", "quantity": 1}]});
    let (_, held) = cli::post(&format!("{}/v1/reservations", house.server.url), "h", &cart);
    let url =
        format!("{}/v1/reservations/{}/commit", house.server.url, held["id"].as_str().unwrap());
    let commit = |code: &str| {
        json!({"order_id": "O-4", "currency": "EUR",
            "lines": [{"sku": "TEE-9", "unit_price": 119, "tax_code": code}]})
    };
    let (status, said) = cli::post(&url, "c", &commit("DE-7"));
    assert_eq!((status, &said["field"]), (400, &json!("lines[0].tax_code")));
    assert_eq!(cli::post(&url, "c", &commit("DE-19")).0, 200);
    house.reload(&books(""), &[]).with(0);
    assert_eq!(order("O-5", "EUR", &["DE-7"]).0, 201);
}

/// A backup made after a change brings what was in force, not what the server was started with.
#[test]
fn a_backup_has_the_configuration_in_force() {
    let house = House::start();
    house.reload(&config(&house.receiver, "new", ""), &[]).with(0);
    let to = house.folder.path().join("backup");
    let words = ["backup", "--url", &house.server.url, "--to"];
    run(holdfast().args(words).arg(&to)).with(0);
    // In the log it stands too, as a record.
    let text = std::fs::read_to_string(to.join("configuration.toml")).unwrap();
    assert!(text.contains(&format!("{}/new", house.receiver.url)), "{text}");
}
