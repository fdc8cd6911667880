//! A server with keys: nothing is shown without one, and the key stays where it belongs.

use std::{fs, path::Path};

use crate::{
    cli::{Server, holdfast},
    driver::Browser,
};

const KEY: &str = "a-key-of-more-than-20-characters";

pub fn with_a_key(browser: &Browser, folder: &Path) {
    fs::create_dir(folder).unwrap();
    let config = folder.join("shop.toml");
    fs::write(&config, "[[partners]]\nname = \"ops\"\napi_key_env = \"OPS_KEY\"\n").unwrap();
    let mut serve = holdfast();
    serve.env("HOLDFAST_CONFIG", &config).env("OPS_KEY", KEY);
    let server = Server::start_with(&folder.join("data"), &mut serve);
    browser.asked();
    browser.open(&format!("{}/#/flow", server.url));
    browser.sees("h1", "Sign in");
    browser.sees_no("nav", "Flow");
    browser.picture("sign-in");
    browser.fill("#key", "not a key");
    browser.click(".sign-in button");
    browser.sees("#key-wrong", "visible ASCII");
    browser.fill("#key", "a-key-that-nobody-has-been-given");
    browser.click(".sign-in button");
    browser.sees("#key-wrong", "does not know this key");
    browser.fill("#key", KEY);
    browser.click(".sign-in button");
    browser.sees("h1", "Flow");
    browser.sees("#main", "No sinks are configured");
    browser.sees(".lamps", "live");
    let kept = "JSON.stringify([Object.values(sessionStorage), Object.values(localStorage), document.cookie])";
    assert_eq!(browser.text(kept), format!("[[\"{KEY}\"],[],\"\"]"));
    assert!(browser.asked().iter().all(|address| !address.contains(KEY)), "it is in no address");
    // It is still known when the page is loaded again, and forgotten when it is signed out.
    browser.open(&format!("{}/#/sale", server.url));
    browser.sees("h1", "Sale");
    browser.click("#sign-out");
    browser.sees("h1", "Sign in");
    assert_eq!(browser.text("sessionStorage.length"), "0");
    browser.open(&format!("{}/#/sale", server.url));
    browser.sees("h1", "Sign in");
}
