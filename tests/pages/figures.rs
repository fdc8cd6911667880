//! What stands on the sale's and the flow's view is what the live stream says, figure by figure: a snapshot is
//! put in its place of which each number is known, and no two are the same.

use serde_json::{Value, json};

use crate::{cli, driver::Browser, house::House};

/// A snapshot of the server with numbers that nobody could mistake for each other.
fn snapshot(house: &House) -> Value {
    let mut snapshot = cli::runtime().block_on(async {
        let url = format!("{}/v1/live", house.server.url);
        let mut stream = cli::client().get(url).send().await.expect("a stream");
        let mut text = Vec::new();
        // The second is the first of an interval.
        while text.windows(2).filter(|end| end == b"\n\n").count() < 2 {
            text.extend_from_slice(&stream.chunk().await.expect("a stream").expect("no end"));
        }
        let text = String::from_utf8(text).unwrap();
        let second = text.split("\n\n").nth(1).unwrap();
        serde_json::from_str::<Value>(second.split_once("data: ").unwrap().1).unwrap()
    });
    let durations = [("p50_ns", 123_400), ("p90_ns", 1_000_000), ("p99_ns", 4_560_000)];
    let most = [("p999_ns", 7_890_000), ("max_ns", 98_700_000), ("count", 300)];
    for (name, value) in durations.into_iter().chain(most) {
        snapshot["decisions"][name] = value.into();
    }
    snapshot["interval_ms"] = 1_000.into();
    let counted = [("granted", 211), ("refused_stock", 57), ("refused_limit", 19)];
    for (name, value) in counted.into_iter().chain([("refused_other", 11), ("replayed", 2)]) {
        snapshot["counted"][name] = value.into();
    }
    let sinks = snapshot["sinks"].as_array_mut().unwrap();
    let erp = sinks.iter_mut().find(|sink| sink["name"] == "erp").unwrap();
    let figures = [("lag_ms", 65_000), ("lag_records", 4_321), ("concurrency", 7)];
    for (name, value) in figures.into_iter().chain([("retries", 29), ("parked", 0)]) {
        erp[name] = value.into();
    }
    erp["lanes"][0]["depth"] = 3.into();
    erp["lanes"][0]["oldest_age_ms"] = 61_000.into();
    erp["attempts"]["under_way"] = 5.into();
    snapshot
}

/// The figures of the sale's view, by their names.
fn figures(browser: &Browser) -> Value {
    browser.run(
        "return Object.fromEntries([...document.querySelectorAll('dl.figures .figure')].map((figure) => \
         [figure.querySelector('dt').innerText, figure.querySelector('dd').innerText.replace(/\\s/g, '')]))",
    )
}

/// What a sink's panel says beside each name, where it stands first.
fn beside(browser: &Browser, sink: &str) -> Value {
    browser.run(&format!(
        "return Object.fromEntries([...document.querySelectorAll('[data-sink={sink}] dt')].reverse().map((name) => \
         [name.innerText, name.nextElementSibling.innerText]))"
    ))
}

pub fn are_those_of_the_stream(browser: &Browser, house: &House) {
    let [figures, sink] = shown(browser, house);
    browser.load(&house.server.url);
    for (name, said) in [
        ("Decisions", "300/s"),
        ("Granted", "211/s"),
        ("Sold out", "57/s"),
        ("p50", "123µs"),
        ("p99", "4.56ms"),
    ] {
        assert_eq!(figures[name], said, "{name}: {figures}");
    }
    for (name, said) in [
        ("Age of the oldest", "1.08 min"),
        ("Records", "4,321"),
        ("Requests at once", "7 at most"),
        ("Requests under way", "5"),
        ("Retries", "29"),
    ] {
        assert_eq!(sink[name], said, "{name}: {sink}");
    }
}

/// The sale's figures and those of a sink, as a page shows them that gets the snapshot.
fn shown(browser: &Browser, house: &House) -> [Value; 2] {
    let event = format!("event: snapshot\ndata: {}\n\n", snapshot(house));
    let stub = browser.before_pages(&format!(
        "{{ const ask = window.fetch; window.fetch = (url, options) => String(url).startsWith('/v1/live') ? \
         Promise.resolve(new Response({})) : ask(url, options); }}",
        json!(event)
    ));
    let url = &house.server.url;
    browser.load(&format!("{url}/#/sale"));
    // The page that is there keeps it.
    browser.no_longer_before_pages(&stub);
    browser.wait("document.querySelector('dl.figures dd')?.innerText.includes('300')");
    let figures = figures(browser);
    browser.sees("dl.figures", "max 98.7 ms");
    browser.view("flow");
    browser.sees("[data-sink=erp] .lane", "3 batches · 1.02 min");
    [figures, beside(browser, "erp")]
}
