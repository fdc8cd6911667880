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
mod frame;
mod house;
mod live;
mod signing_in;
mod views;

use driver::Browser;
use house::House;

#[test]
fn an_operator_sees_and_does_in_a_browser_what_a_sale_needs() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    let browser = Browser::start();
    browser.size(1280, 900);
    browser.open(&house.server.url);
    frame::is_painted_at_once(&browser);
    views::sale(&browser, &house);
    views::flow(&browser, &house);
    views::outage(&browser, &house);
    views::dead_letters(&browser, &house);
    views::orders(&browser, &house);
    views::parked(&browser, &house);
    views::reconciliation(&browser, &house);
    views::latency(&browser);
    frame::is_used_by_keyboard(&browser);
    frame::is_light_and_dark(&browser);
    frame::has_room_at_every_width(&browser);
    frame::says_nothing_on_the_console_and_asks_nobody_else(&browser, &house.server.url);
    views::what_other_versions_offer(&browser, &house.server.url);
    views::what_a_key_does_not_allow(&browser, &house.server.url);
    frame::says_that_the_server_is_gone(&browser, house);
    signing_in::with_a_key(&browser, &folder.path().join("keyed"));
}
