//! A server with keys: nothing is shown without one, and the key stays where it belongs.

use std::{fs, path::Path};

use crate::{
    cli::{Server, holdfast},
    driver::Browser,
};

const KEY: &str = "a-key-of-more-than-20-characters";
const OTHER_KEY: &str = "another-key-of-more-than-20-characters";

/// A key that may look on sees what goes on; what it may not do or see is told, and nothing is done.
pub fn with_a_key_that_may_look_on(browser: &Browser, folder: &Path) {
    fs::create_dir(folder).unwrap();
    let config = folder.join("shop.toml");
    let text = "[[partners]]\nname = \"night\"\napi_key_env = \"NIGHT_KEY\"\nscopes = [\"observe\"]\n\
                [[partners]]\nname = \"psp\"\napi_key_env = \"PSP_KEY\"\nscopes = [\"settle\"]\n\
                [[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"http://127.0.0.1:1\"\n";
    fs::write(&config, text).unwrap();
    let mut serve = holdfast();
    serve.env("HOLDFAST_CONFIG", &config).env("NIGHT_KEY", KEY).env("PSP_KEY", OTHER_KEY);
    let server = Server::start_with(&folder.join("data"), &mut serve);
    browser.open(&format!("{}/#/flow", server.url));
    browser.fill("#key", KEY);
    browser.click(".sign-in button");
    browser.sees("[data-sink=erp]", "running");
    browser.sees(".lamps", "live");
    browser.click("[data-sink=erp] [data-deed=pause]");
    browser.click("dialog[open] button[type=submit]");
    browser.sees("dialog[open] .wrong", "Your key does not allow this");
    browser.run("document.querySelector('dialog[open]').close()");
    browser.sees("[data-sink=erp]", "running");
    browser.click("#sign-out");
    browser.sees("h1", "Sign in");
    // One that may not even look on is told so.
    browser.fill("#key", OTHER_KEY);
    browser.click(".sign-in button");
    browser.sees("body", "this key does not allow the live view");
    browser.run("location.hash = '#/dead-letters'");
    browser.sees("#main", "Your key does not allow this");
    browser.sees("#main", "takes the scope `observe` or `operate`");
    browser.picture("key-of-few-scopes");
    browser.click("#sign-out");
}

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
