//! What all views have in common.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    driver::Browser,
    house::{House, until},
};

pub const VIEWS: [&str; 9] = [
    "sale",
    "flow",
    "orders/O-1",
    "dead-letters",
    "parked",
    "reconciliation",
    "service-levels",
    "latency",
    "configuration",
];

const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// The first paint is the frame's, which waits for no answer. The bound is loose: the machine may be busy, and this
/// a build for tests (docs/performance.md says what it took).
pub fn is_painted_at_once(browser: &Browser) {
    browser.sees("h1", "Sale");
    browser.sees(".lamps", "live");
    let paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime";
    browser.open(&browser.text("location.href"));
    browser.wait("performance.getEntriesByName('first-contentful-paint').length");
    let ms: f64 = browser.text(paint).parse().unwrap();
    println!("first contentful paint: {ms:.0} ms");
    assert!(ms < 2_000.0, "{ms} ms");
}

pub fn is_used_by_keyboard(browser: &Browser) {
    browser.view("sale");
    for (keys, view) in [
        ("gf", "flow"),
        ("gd", "dead-letters"),
        ("gp", "parked"),
        ("gl", "latency"),
        ("gv", "service-levels"),
        ("gr", "reconciliation"),
        ("gc", "configuration"),
        ("gs", "sale"),
    ] {
        browser.press(keys);
        browser.wait(&format!("location.hash === '#/{view}'"));
        browser.wait(&format!("document.querySelector('#main [data-view=\"{view}\"] h1')"));
        let current = "document.querySelector('#nav a[aria-current=page]').hash";
        assert_eq!(browser.text(current), format!("#/{view}"));
    }
    browser.press("?");
    browser.sees("dialog[open]", "Keyboard");
    browser.press(ESCAPE);
    browser.wait("!document.querySelector('dialog[open]')");
    browser.press("/");
    browser.wait("location.hash === '#/orders' && document.activeElement.type === 'search'");
    browser.press("O-1");
    browser.press(ENTER);
    browser.sees("#main", "Order O-1");
    // The first thing that the keyboard reaches leads past the list of views.
    browser.load(&browser.text("location.origin + '/#/sale'"));
    browser.sees("h1", "Sale");
    browser.press(TAB);
    assert_eq!(browser.text("document.activeElement.className"), "skip");
    let outline = browser.text("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus is seen");
    browser.press(ENTER);
    assert_eq!(browser.text("document.activeElement.id"), "main");
    // Every field and button has a name.
    for view in VIEWS {
        browser.view(view);
        let nameless = "[...document.querySelectorAll('button, input, select, textarea, a')].filter((e) => \
            !(e.innerText.trim() || e.ariaLabel || e.labels?.length || e.title)).map((e) => e.outerHTML)";
        assert_eq!(browser.run(&format!("return {nameless}")), json!([]), "{view}");
    }
}

/// A sink is paused and resumed without a mouse: by the view's letters, by Tab, by Enter.
pub fn does_by_keyboard(browser: &Browser, house: &House) {
    browser.load(&format!("{}/#/sale", house.server.url));
    browser.sees("h1", "Sale");
    browser.press("gf");
    browser.sees("[data-sink=warehouse]", "running");
    for (deed, state) in [("pause", "paused"), ("resume", "running")] {
        let reached =
            format!("document.activeElement.matches('[data-sink=warehouse] [data-deed={deed}]')");
        browser.wait(&format!(
            "document.querySelector('[data-sink=warehouse] [data-deed={deed}]').checkVisibility()"
        ));
        let tabs = (0..80).find(|_| {
            browser.press(TAB);
            browser.text(&reached) == "true"
        });
        assert!(tabs.is_some(), "{deed} is not reached");
        browser.press(ENTER);
        browser.wait("document.querySelector('dialog[open]')?.contains(document.activeElement)");
        browser.press("by hand");
        // Past the button that puts it away.
        browser.press(TAB);
        browser.press(TAB);
        browser.press(ENTER);
        browser.wait("!document.querySelector('dialog[open]')");
        until(state, || house.sink("warehouse")["state"] == state);
        browser.sees("[data-sink=warehouse]", state);
    }
    // What was begun and given up does nothing.
    browser.press("gd");
    browser.view("flow");
    browser.click("[data-sink=warehouse] [data-deed=pause]");
    browser.wait("document.querySelector('dialog[open]')");
    browser.press(ESCAPE);
    browser.wait("!document.querySelector('dialog[open]')");
    assert_eq!(house.sink("warehouse")["state"], "running");
}

fn ground(browser: &Browser) -> u32 {
    let colour = browser.text("getComputedStyle(document.documentElement).backgroundColor");
    let numbers = colour.trim_start_matches("rgb(").trim_end_matches(')').split(", ");
    numbers.map(|number| number.parse::<u32>().unwrap()).sum()
}

pub fn is_light_and_dark(browser: &Browser) {
    browser.view("sale");
    browser.prefers("light");
    assert!(ground(browser) > 600, "light as the system has it");
    browser.prefers("dark");
    assert!(ground(browser) < 150, "dark as the system has it");
    browser.click("#theme");
    assert!(ground(browser) > 600, "light as it was chosen");
    browser.press("t");
    assert!(ground(browser) < 150, "dark as it was chosen");
    browser.load(&browser.text("location.href"));
    browser.prefers("light");
    browser.sees("h1", "Sale");
    assert!(ground(browser) < 150, "the choice stays");
    browser.run("localStorage.clear(); delete document.documentElement.dataset.theme");
}

pub fn has_room_at_every_width(browser: &Browser) {
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        for width in [400, 1280, 2560] {
            browser.size(width, 1000);
            for view in VIEWS {
                browser.view(view);
                browser.wait("!document.querySelector('#main .waiting')");
                let wide = "document.documentElement.scrollWidth";
                let wide: u32 = browser.text(wide).parse().unwrap();
                assert!(wide <= width, "{view} is {wide} wide at {width}");
                browser.picture(&format!("{}-{scheme}-{width}", view.replace('/', "-")));
            }
        }
    }
    browser.size(400, 900);
    browser.click("#menu");
    browser.click("#nav a[data-key=f]");
    browser.sees("h1", "Flow");
    browser.wait("document.querySelector('#menu').ariaExpanded === 'false'");
    browser.size(1280, 900);
}

/// A refusal that a test provoked is told by the browser itself; nothing else may be.
pub fn tells_and_asks_nobody_else(browser: &Browser, url: &str) {
    let provoked = |line: &String| line.contains("Failed to load resource: the server responded");
    let said: Vec<_> = browser.console().into_iter().filter(|line| !provoked(line)).collect();
    assert_eq!(said, Vec::<String>::new());
    let asked = browser.asked();
    assert!(asked.iter().any(|address| address.ends_with("/v1/live")), "{asked:?}");
    let elsewhere: Vec<_> = asked.iter().filter(|address| !address.starts_with(url)).collect();
    assert_eq!(elsewhere, Vec::<&String>::new());
}

/// The stream does not hold the server up, and its end is seen.
pub fn says_that_the_server_is_gone(browser: &Browser, house: House) {
    browser.load(&house.server.url);
    browser.sees(".lamps", "live");
    let began = Instant::now();
    assert_eq!(house.server.terminate().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    browser.sees(".lamps", "no connection");
    browser.console();
}
