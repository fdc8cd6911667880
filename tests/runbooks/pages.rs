//! Every page of `docs/runbooks/` and every block of it, in order, in the situation that it is for.
//!
//! A block is run by a shell as it stands; only the index's variables have other values, and `systemctl`
//! is a script that starts and stops the real binary as the unit would. A comment between blocks
//! (`<!-- … -->`) says what happens in the world meanwhile: the test sees to it.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    cli::{Ended, get, post, runtime},
    house::{House, until},
};

const PAGES: [&str; 7] = [
    "before-a-sale",
    "disk-nearly-full",
    "during-a-sale",
    "erp-down",
    "poison",
    "restore",
    "roll-back",
];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks")
}

fn read(page: &str) -> String {
    fs::read_to_string(folder().join(format!("{page}.md"))).unwrap()
}

/// What a page has, in order.
#[derive(Debug, PartialEq)]
enum Step {
    Block(String),
    Happens(String),
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (Some(_), "```") => steps.extend(block.take().map(Step::Block)),
            (Some(block), line) => *block += &format!("{line}\n"),
            (None, line) => {
                assert!(
                    !line.starts_with("```") || line == "```",
                    "a block that is not run: {line}"
                );
                let happens = line.strip_prefix("<!-- ").and_then(|l| l.strip_suffix(" -->"));
                steps.extend(happens.map(|what| Step::Happens(what.to_owned())));
            }
        }
    }
    assert_eq!(block, None);
    steps
}

fn blocks(page: &str) -> Vec<String> {
    let steps = steps(&read(page)).into_iter().filter_map(|step| match step {
        Step::Block(block) => Some(block),
        Step::Happens(_) => None,
    });
    steps.collect()
}

/// A server that is started and stopped as a page says.
struct Stand {
    house: House,
    page: &'static str,
    /// Shell that sets the index's variables.
    variables: String,
    _folder: tempfile::TempDir,
}

/// Stands in for systemd: runs what the unit runs.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
stop() {
    [ -e "$RUN/pid" ] || return 0
    pid=$(cat "$RUN/pid")
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null; do
        sleep 0.05
    done
    rm -f "$RUN/pid"
}
start() {
    "$BIN" check-config >/dev/null
    "$BIN" serve --listen "$LISTEN" --data "$DATA" >"$RUN/out" 2>&1 </dev/null &
    echo $! >"$RUN/pid"
}
[ "$2" = holdfast ]
case "$1" in
    start) start ;;
    stop) stop ;;
    restart) stop; start ;;
    *) exit 2 ;;
esac
"#;

impl Stand {
    /// With a server that runs, and articles.
    fn new(page: &'static str, budget: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut house = House::new(dir.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let log = format!(
            "[log]\nsegment_bytes = \"1 MiB\"\nbudget_bytes = \"{budget}\"\narchive_dir = \"{}\"\n",
            house.path("archive").display()
        );
        let config = house.path("holdfast.toml");
        let sinks = fs::read_to_string(&config).unwrap();
        fs::write(&config, log + &sinks).unwrap();
        for name in ["bin", "backups", "work", "run"] {
            fs::create_dir(house.path(name)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_holdfast"), house.path("bin/holdfast")).unwrap();
        executable(&house.path("bin/systemctl"), SYSTEMCTL);
        let mut variables = index();
        for (name, was, is) in [
            ("URL", "http://127.0.0.1:7411", url.clone()),
            ("HOLDFAST_CONFIG", "/etc/holdfast/holdfast.toml", config.display().to_string()),
            ("BIN", "/usr/bin/holdfast", house.path("bin/holdfast").display().to_string()),
            ("DATA", "/var/lib/holdfast/data", house.path("data").display().to_string()),
            ("BACKUPS", "/var/backups/holdfast", house.path("backups").display().to_string()),
            ("ARCHIVE", "/var/lib/holdfast/archive", house.path("archive").display().to_string()),
        ] {
            let line = format!("export {name}={was}\n");
            assert!(variables.contains(&line), "{line} in the index");
            variables = variables.replace(&line, &format!("export {name}={is}\n"));
        }
        variables += &format!("export LISTEN=127.0.0.1:{port}\n");
        house.fixed = Some(url);
        let stand = Self { house, page, variables, _folder: dir };
        stand.shell("systemctl start holdfast && holdfast ready --wait 60 --url \"$URL\"").with(0);
        stand
    }

    fn shell(&self, script: &str) -> Ended {
        let house = &self.house;
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOLDFAST") {
                command.env_remove(name);
            }
        }
        let path = format!("{}:{}", house.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("RUN", house.path("run")).env("RUST_LOG", "warn");
        command.current_dir(house.path("work"));
        command.args(["-e", "-c", &format!("{}\n{script}", self.variables)]);
        Ended::of(command.output().expect("a shell"))
    }

    /// Runs the page: every block must end with 0. Returns what each said.
    fn play(&self, mut happens: impl FnMut(&House, &str)) -> Vec<String> {
        let text = read(self.page);
        let steps = steps(&text);
        let mut said = Vec::new();
        for step in steps {
            match step {
                Step::Happens(what) => happens(&self.house, &what),
                Step::Block(script) => {
                    let ended = self.shell(&script);
                    assert_eq!(
                        ended.code,
                        Some(0),
                        "{}: {script}{}{}",
                        self.page,
                        ended.out,
                        ended.err
                    );
                    said.push(ended.out);
                }
            }
        }
        assert_eq!(said.len(), text.matches("```sh\n").count(), "no block is skipped");
        said
    }

    fn stock(&self, sku: &str, on_hand: u64) {
        let file = self.house.path("stock.csv");
        fs::write(&file, format!("sku,location,on_hand\n{sku},BER,{on_hand}\n")).unwrap();
        let url = self.house.base();
        self.shell(&format!("holdfast stock import {} --url {url}", file.display())).with(0);
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // A test that fails leaves none running either.
        let _ = self.shell("systemctl stop holdfast");
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The index's one block.
fn index() -> String {
    match &steps(&read("README"))[..] {
        [Step::Block(block)] => block.clone(),
        other => panic!("the index has {other:?}"),
    }
}

fn nothing_happens(_: &House, what: &str) {
    panic!("nobody sees to it: {what}");
}

fn letters(house: &House) -> Vec<Value> {
    get(&house.url("/v1/dead-letters"))["dead_letters"].as_array().unwrap().clone()
}

#[test]
fn every_page_is_played_and_in_the_index() {
    let mut found: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .filter(|name| name != "README")
        .collect();
    found.sort();
    assert_eq!(found, PAGES);
    let index = read("README");
    for page in PAGES {
        assert!(index.contains(&format!("[{page}.md]({page}.md)")), "{page}");
        assert!(include_str!("pages.rs").contains(&format!("Stand::new(\"{page}\"")), "{page}");
    }
}

/// Where there are partners, each request of a page needs a key, and shows the one of the variable.
#[test]
fn requests_of_the_pages_show_the_key() {
    for page in PAGES {
        blocks(page).iter().for_each(|block| assert!(!block.contains("curl "), "{page}: {block}"));
    }
    let text = read("README");
    let (_, scopes) = text.split_once("(scopes `").expect("which scopes it takes");
    let (scopes, _) = scopes.split_once('`').unwrap();
    for mut stand in [Stand::new("during-a-sale", "64 MiB"), Stand::new("before-a-sale", "64 MiB")]
    {
        stand.stock("TEE-M", 10);
        assert_eq!(stand.house.sell("O-1", "TEE-M", 2).0, 201);
        stand.house.settled("TEE-M", 2);
        let csv = "sku,location,on_hand\nTEE-M,BER,100\n";
        fs::write(stand.house.path("work/stock.csv"), csv).unwrap();
        let add = format!("holdfast partner add ops --scope {scopes} --json --url \"$URL\"");
        let added: Value = serde_json::from_str(&stand.shell(&add).with(0).out).unwrap();
        let without = stand.shell("api \"$URL/v1/status\"");
        assert!(without.code != Some(0) && without.err.contains("401"), "{}", without.err);
        let key = added["api_key"].as_str().unwrap();
        stand.variables += &format!("export HOLDFAST_API_KEY={key}\n");
        stand.play(nothing_happens);
    }
}

#[test]
fn before_a_sale() {
    let stand = Stand::new("before-a-sale", "64 MiB");
    fs::write(stand.house.path("work/stock.csv"), "sku,location,on_hand\nTEE-M,BER,100\n").unwrap();
    let said = stand.play(nothing_happens);
    assert!(
        said[1].contains("orders_max = ") && said[1].contains("holdfast_orders 0"),
        "{}",
        said[1]
    );
    assert!(said[2].contains("version 2 is in force"), "{}", said[2]);
    assert!(said[3].contains("1 applied, 0 refused"), "{}", said[3]);
    assert!(said[4].starts_with("erp: agrees"), "{}", said[4]);
    assert!(said[5].contains("erp: inventory, running"), "{}", said[5]);
    assert!(
        said[7].contains("1 positions, 0 orders") && said[7].contains("oversold 0"),
        "{}",
        said[7]
    );
    let configuration = get(&stand.house.url("/v1/configuration"));
    assert!(configuration["toml"].as_str().unwrap().contains("the sale"), "{configuration}");
    assert!(stand.house.path("backups/before-the-sale/manifest.json").exists());
    assert!(!stand.house.path("backups/trial").exists());
    let stock = get(&stand.house.url("/v1/stock/TEE-M"));
    assert_eq!((&stock["available"], &stock["held"]), (&json!(100), &json!(0)));
}

#[test]
fn during_a_sale() {
    let stand = Stand::new("during-a-sale", "64 MiB");
    stand.stock("TEE-M", 10);
    assert_eq!(stand.house.sell("O-1", "TEE-M", 2).0, 201);
    assert_eq!(stand.house.sell("O-2", "TEE-M", 9).0, 409);
    stand.house.settled("TEE-M", 2);
    let said = stand.play(nothing_happens);
    assert!(
        said[0].contains("\"oversold\":0") && said[0].contains("holdfast_log_poisoned 0"),
        "{}",
        said[0]
    );
    assert!(said[1].contains("/v1/orders"), "{}", said[1]);
    assert!(said[2].contains("holdfast_refused_stock_total 1"), "{}", said[2]);
    assert!(said[3].contains("behind 0 records"), "{}", said[3]);
    assert!(said[4].contains("erp-"), "the batch that carried it: {}", said[4]);
    assert!(stand.house.path("backups/during-the-sale/manifest.json").exists());
}

#[test]
fn erp_down() {
    let stand = Stand::new("erp-down", "64 MiB");
    stand.stock("TEE-M", 10);
    stand.house.settled("TEE-M", 0);
    stand.house.erp.with(|erp| erp.outage = true);
    assert_eq!(stand.house.sell("O-1", "TEE-M", 2).0, 201);
    until("it is behind", || stand.house.sink()["retries"].as_u64() > Some(0));
    let said = stand.play(|house, what| {
        assert_eq!(what, "the partner is well again");
        assert_eq!((house.sold("TEE-M"), &house.sink()["state"]), (0, &json!("paused")));
        assert_eq!(house.sell("O-2", "TEE-M", 1).0, 201);
        house.erp.with(|erp| erp.outage = false);
    });
    assert!(!said[0].contains("behind 0 records"), "{}", said[0]);
    assert!(said[2].contains("erp: pause, written down"), "{}", said[2]);
    assert!(said[3].contains("holdfast_orders_placed_total 1"), "{}", said[3]);
    assert!(said[5].contains("batches are sent again"), "{}", said[5]);
    assert!(said[6].starts_with("erp: agrees"), "{}", said[6]);
    assert_eq!(stand.house.sold("TEE-M"), 3, "what was sent again is known");
}

#[test]
fn disk_nearly_full() {
    let stand = Stand::new("disk-nearly-full", "12 MiB");
    stand.stock("TEE-M", 1_000_000);
    stand.house.settled("TEE-M", 0);
    stand.house.erp.with(|erp| erp.outage = true);
    assert_eq!(stand.house.sell("O-1", "TEE-M", 2).0, 201);
    let (status, held) = stand.house.reserve("open", "TEE-M", 1);
    assert_eq!(status, 201);
    fill(&stand.house);
    let soft = |mark| {
        metrics(&stand.house).contains(&format!("holdfast_log_mark{{mark=\"soft\"}} {mark}"))
    };
    assert!(soft(1));
    let said = stand.play(|house, what| {
        assert_eq!(what, "a customer pays");
        let commit = format!("/v1/reservations/{}/commit", held["id"].as_str().unwrap());
        let order = json!({"order_id": "O-2", "currency": "EUR",
            "lines": [{"sku": "TEE-M", "unit_price": 1999}]});
        assert_eq!(post(&house.url(&commit), "pays", &order).0, 200);
    });
    assert!(said[0].contains("holdfast_log_mark{mark=\"hard\"} 1"), "{}", said[0]);
    assert!(said[0].contains("holdfast_log_shed_total{reason=\"low_priority\"} 1"), "{}", said[0]);
    assert!(!said[1].contains("behind 0 records"), "{}", said[1]);
    assert!(said[2].contains("holdfast_archive_failing 0"), "{}", said[2]);
    assert!(said[4].contains("holdfast_reservations_committed_total 2"), "{}", said[4]);
    assert!(soft(0));
    assert_eq!(stand.house.reserve("again", "TEE-M", 1).0, 201);
    assert_eq!(stand.house.status()["log_bytes_budget"], json!(24 << 20));
    a_budget_that_does_not_do_is_taken_back(&stand);
}

/// The page's block once more, where the file can't be used: nothing is restarted, and the file is as it was.
fn a_budget_that_does_not_do_is_taken_back(stand: &Stand) {
    let config = stand.house.path("holdfast.toml");
    let wrong = fs::read_to_string(&config).unwrap() + "[nothing]\n";
    fs::write(&config, &wrong).unwrap();
    let raise = blocks(stand.page).into_iter().find(|block| block.contains("sed -i"));
    let pid = fs::read_to_string(stand.house.path("run/pid")).unwrap();
    stand.shell(&raise.unwrap()).with(1);
    assert_eq!(fs::read_to_string(&config).unwrap(), wrong);
    assert_eq!(fs::read_to_string(stand.house.path("run/pid")).unwrap(), pid);
}

fn metrics(house: &House) -> String {
    runtime().block_on(async {
        super::cli::client().get(house.url("/metrics")).send().await.unwrap().text().await.unwrap()
    })
}

/// Reserves until the log takes no more; work that can wait is refused first.
fn fill(house: &House) {
    let mut shed = false;
    for round in 0..200 {
        let batch: Vec<Value> = (0..500)
            .map(|n| {
                json!({"idempotency_key": format!("fill-{round}-{n}"),
                    "lines": [{"sku": "TEE-M", "quantity": 1}]})
            })
            .collect();
        let url = house.url("/v1/reservations/batch");
        let (_, answer) = post(&url, &format!("fill-{round}"), &json!({"reservations": batch}));
        if !shed && house.status()["log_past_soft_mark"] == true {
            shed = true;
            let low = runtime().block_on(async {
                let request = super::cli::client().post(house.url("/v1/reservations"));
                let request = request.header("priority", "u=6").header("idempotency-key", "low");
                let body = json!({"lines": [{"sku": "TEE-M", "quantity": 1}]});
                request.json(&body).send().await.unwrap().status().as_u16()
            });
            assert_eq!(low, 503);
        }
        if answer.to_string().contains("log_full") {
            assert!(shed, "the soft mark comes first");
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it never fills up");
}

/// Reserves, and lets go again, until something is so.
fn push(house: &House, done: impl Fn() -> bool) {
    let url = house.url("/v1/reservations/batch");
    for round in 0..500 {
        if done() {
            return;
        }
        let batch: Vec<Value> = (0..500)
            .map(|n| {
                json!({"idempotency_key": format!("push-{round}-{n}"), "ttl_ms": 1000,
                    "lines": [{"sku": "TEE-X", "quantity": 1}]})
            })
            .collect();
        post(&url, &format!("push-{round}"), &json!({"reservations": batch}));
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it never is");
}

/// Up to where the log is archived.
fn archived(house: &House) -> u64 {
    let metrics = metrics(house);
    let line = metrics.lines().find_map(|line| line.strip_prefix("holdfast_archive_end_lsn "));
    line.unwrap().parse::<f64>().unwrap() as u64
}

#[test]
fn poison() {
    let stand = Stand::new("poison", "64 MiB");
    stand.stock("TEE-M", 100);
    stand.stock("TEE-X", 100);
    stand.house.settled("TEE-X", 0);
    let mut orders = 0;
    let mut refused = |house: &House| {
        house.erp.with(|erp| erp.refused = Some("TEE-X".to_owned()));
        orders += 1;
        assert_eq!(house.sell(&format!("X-{orders}"), "TEE-X", 1).0, 201);
        until("a letter", || letters(house).len() == 1);
    };
    refused(&stand.house);
    let said = stand.play(|house, what| match what {
        "the partner takes the article" => house.erp.with(|erp| erp.refused = None),
        "another letter" => refused(house),
        "a batch that is never answered" => {
            house.erp.with(|erp| erp.outage = true);
            assert_eq!(house.sell("O-1", "TEE-M", 5).0, 201);
            until("it is under way", || house.sink()["lanes"][0]["depth"] == 1);
        }
        other => panic!("nobody sees to it: {other}"),
    });
    assert!(said[0].contains("not ours"), "{}", said[0]);
    let shown = fs::read_to_string(stand.house.path("work/letter.json")).unwrap();
    assert!(shown.contains("TEE-X"), "{shown}");
    // One was taken after all, one was mended to another article, one was dropped.
    until("mended", || stand.house.sold("TEE-M") == 1);
    assert_eq!(stand.house.sold("TEE-X"), 1);
    let letters = letters(&stand.house);
    assert!(
        letters[0]["reason"].as_str().unwrap().contains("the partner looks into it"),
        "{letters:?}"
    );
}

#[test]
fn roll_back() {
    let stand = Stand::new("roll-back", "64 MiB");
    stand.stock("TEE-M", 10);
    let bin = stand.house.path("bin/holdfast");
    let said = stand.play(|house, what| match what {
        "a new configuration is put there" => {
            let config = house.path("holdfast.toml");
            let good = fs::read_to_string(&config).unwrap();
            fs::write(&config, good.replace("budget_bytes", "budget_byte")).unwrap();
        }
        "another configuration is put there and applied" => {
            let config = house.path("holdfast.toml");
            let good = fs::read_to_string(&config).unwrap();
            fs::write(&config, good + "[server]\nrequest_timeout_ms = 900\n").unwrap();
            house.command(&["config", "reload", "--reason", "faster"]).with(0);
        }
        "a new version is put there" => {
            fs::remove_file(&bin).unwrap();
            executable(&bin, "#!/bin/sh\nexit 3\n");
        }
        other => panic!("nobody sees to it: {other}"),
    });
    assert!(stand.house.path("backups/before-the-update/manifest.json").exists());
    assert!(said[4].contains("server.request_timeout_ms: 900 -> "), "{}", said[4]);
    assert!(
        said[7].contains("0 damaged places") && said[7].contains("\"oversold\":0"),
        "{}",
        said[7]
    );
    assert_eq!(stand.house.sell("O-1", "TEE-M", 1).0, 201);
}

#[test]
fn restore() {
    let stand = Stand::new("restore", "64 MiB");
    stand.stock("TEE-M", 100);
    stand.stock("TEE-X", 1_000_000);
    assert_eq!(stand.house.sell("O-kept", "TEE-M", 3).0, 201);
    stand.house.settled("TEE-M", 3);
    stand.shell("holdfast backup --to \"$BACKUPS/nightly\" --url \"$URL\"").with(0);
    // After the backup, and archived; then what the archive has not got yet.
    assert_eq!(stand.house.sell("O-archived", "TEE-M", 2).0, 201);
    let sold = stand.house.status()["durable"].as_u64().unwrap();
    push(&stand.house, || archived(&stand.house) > sold);
    assert_eq!(stand.house.sell("O-lost", "TEE-M", 7).0, 201);
    stand.house.settled("TEE-M", 12);
    stand.shell("kill -KILL \"$(cat \"$RUN/pid\")\"").with(0);
    let said = stand.play(|house, what| {
        assert_eq!(what, "the partner takes them back");
        let drift = fs::read_to_string(house.path("work/drift")).unwrap();
        assert!(
            drift.contains("TEE-M at all locations, committed: ledger 5, partner 12"),
            "{drift}"
        );
        let at = ("TEE-M".to_owned(), "BER".to_owned());
        house.erp.with(|erp| erp.stock.get_mut(&at).unwrap().1 -= 7);
    });
    assert!(said[1].contains("lost order O-lost") && said[1].contains("oversold 0"), "{}", said[1]);
    let lost = fs::read_to_string(stand.house.path("work/lost-orders.ndjson")).unwrap();
    assert!(lost.contains("O-lost") && lost.lines().count() == 1, "{lost}");
    assert!(said[3].contains("erp: inventory, paused"), "{}", said[3]);
    assert!(said[6].contains("erp: agrees"), "{}", said[6]);
    assert_eq!(stand.house.sold("TEE-M"), 12);
    assert_eq!(get(&stand.house.url("/v1/stock/TEE-M"))["committed"], json!(12));
    assert!(stand.house.path("backups/after-the-restore/manifest.json").exists());
    assert!(said[1].contains("2 positions, 2 orders"), "with the archive: {}", said[1]);
    let orders = |page: &str| page.contains("2 positions, 3 orders") && page.contains("oversold 0");
    assert!(orders(&said[8]), "with the old directory, all: {}", said[8]);
    assert!(said[9].contains("2 positions, 2 orders"), "up to a moment: {}", said[9]);
}
