//! The operator's pages in a real browser, against a real server: each view, each of its actions with its
//! effect looked up in the API, an outage seen and recovered, the keyboard, light and dark, widths from 400
//! to 2,560 pixels, signing in; and the live stream behind them by itself.
//!
//! All that needs the browser is one test, so that one is started. It needs Debian's `chromium` and
//! `chromium-driver`. With `HOLDFAST_PICTURES=folder` it saves a picture of every view there.

#[path = "../cli/mod.rs"]
mod cli;
mod driver;
#[allow(dead_code, reason = "here it does not lie")]
#[path = "../far_reconcile/erp.rs"]
mod erp;
mod figures;
mod frame;
mod house;
mod live;
mod signing_in;
mod views;

use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::Browser;
use house::House;

/// Goes on after a part that failed, so that one run tells of all.
struct Parts<'a> {
    browser: &'a Browser,
    failed: Vec<&'static str>,
}

impl Parts<'_> {
    fn part(&mut self, name: &'static str, part: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(part)).is_err() {
            self.failed.push(name);
            // A dialog that is still open would be in everybody's way.
            self.browser.run("document.getElementById('dialog')?.close()");
        }
    }
}

#[test]
fn an_operator_sees_and_does_in_a_browser_what_a_sale_needs() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    let url = house.server.url.clone();
    let browser = Browser::start();
    browser.size(1280, 900);
    browser.open(&url);
    let mut parts = Parts { browser: &browser, failed: Vec::new() };
    parts.part("first paint", || frame::is_painted_at_once(&browser));
    parts.part("sale", || views::sale(&browser, &house));
    parts.part("flow", || views::flow(&browser, &house));
    parts.part("outage", || views::outage(&browser, &house));
    parts.part("dead letters", || views::dead_letters(&browser, &house));
    parts.part("orders", || views::orders(&browser, &house));
    parts.part("parked", || views::parked(&browser, &house));
    parts.part("reconciliation", || views::reconciliation(&browser, &house));
    parts.part("latency", || views::latency(&browser, &house));
    parts.part("service levels", || views::service_levels(&browser, &house));
    parts.part("configuration", || views::configuration(&browser, &house));
    parts.part("figures", || figures::are_those_of_the_stream(&browser, &house));
    parts.part("deeds by keyboard", || frame::does_by_keyboard(&browser, &house));
    parts.part("keyboard", || frame::is_used_by_keyboard(&browser));
    parts.part("light and dark", || frame::is_light_and_dark(&browser));
    parts.part("widths", || frame::has_room_at_every_width(&browser));
    parts.part("console", || frame::tells_and_asks_nobody_else(&browser, &url));
    parts.part("other versions", || views::what_other_versions_offer(&browser, &url));
    parts.part("nothing there", || views::what_is_not_there(&browser, &url));
    parts.part("not allowed", || views::what_a_key_does_not_allow(&browser, &url));
    parts.part("server gone", || frame::says_that_the_server_is_gone(&browser, house));
    let keyed = folder.path().join("keyed");
    parts.part("signing in", || signing_in::with_a_key(&browser, &keyed));
    let looks_on = folder.path().join("looks-on");
    parts.part("looking on", || signing_in::with_a_key_that_may_look_on(&browser, &looks_on));
    assert_eq!(parts.failed, Vec::<&str>::new(), "what failed is told above");
}
