//! A browser: Chromium without a window, spoken to by WebDriver (W3C) through chromedriver. It waits for
//! what is to come rather than sleeping, clicks as a person would, and remembers what the console said
//! and which addresses were asked.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);
const PACE: Duration = Duration::from_millis(25);
/// The member that names an element in answers (W3C WebDriver, section 12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Browser {
    driver: Child,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    session: String,
    pictures: Option<PathBuf>,
}

impl Browser {
    pub fn start() -> Self {
        let (driver, port) = driver();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE * 2).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let session = format!("http://127.0.0.1:{port}/session");
        let pictures = std::env::var_os("HOLDFAST_PICTURES").map(PathBuf::from);
        let mut browser = Self { driver, runtime, client, session, pictures };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
        ];
        let wanted = json!({"browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "goog:chromeOptions": {"args": arguments}});
        let made = browser.call("", json!({"capabilities": {"alwaysMatch": wanted}}));
        let made = made.unwrap_or_else(|e| panic!("no browser (Debian: chromium): {e}"));
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().unwrap());
        browser
    }

    /// Calls the driver; what went wrong is told in its words.
    fn call(&self, path: &str, body: Value) -> Result<Value, String> {
        self.runtime.block_on(async {
            let url = format!("{}{path}", self.session);
            let request = match body {
                Value::Null => self.client.get(url),
                body => self.client.post(url).json(&body),
            };
            let answer = request.send().await.map_err(|e| e.to_string())?;
            let is_done = answer.status().is_success();
            let mut answer: Value = answer.json().await.map_err(|e| e.to_string())?;
            match is_done {
                true => Ok(answer["value"].take()),
                false => Err(answer["value"]["message"].to_string()),
            }
        })
    }

    #[track_caller]
    fn done(&self, path: &str, body: Value) -> Value {
        self.call(path, body).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub fn open(&self, url: &str) {
        self.done("/url", json!({"url": url}));
    }

    /// Loads a page anew, even if only what stands behind the `#` differs.
    pub fn load(&self, url: &str) {
        self.open("about:blank");
        self.open(url);
    }

    /// Shows a view by its address behind the `#`.
    pub fn view(&self, name: &str) {
        self.run(&format!("location.hash = '#/{name}'"));
        let first = name.split(['/', '?']).next().unwrap();
        self.wait(&format!("document.querySelector('[data-view=\"{first}\"] h1')"));
    }

    /// What a script gives.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.done("/execute/sync", json!({"script": script, "args": []}))
    }

    /// What an expression gives, as a text.
    #[track_caller]
    pub fn text(&self, expression: &str) -> String {
        let value = self.run(&format!("return {expression}"));
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// Waits until an expression is truthy.
    #[track_caller]
    pub fn wait(&self, expression: &str) {
        let began = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != json!(true) {
            if began.elapsed() > PATIENCE {
                let seen = self.text("document.body.innerText");
                panic!("never: {expression}\nconsole: {:?}\npage:\n{seen}", self.console());
            }
            thread::sleep(PACE);
        }
    }

    /// Waits until an element of a selector says something.
    #[track_caller]
    pub fn sees(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        let all = format!("[...document.querySelectorAll({selector})]");
        self.wait(&format!(
            "{all}.some((e) => e.checkVisibility() && e.innerText.includes({text}))"
        ));
    }

    /// Waits until no element of a selector says something.
    #[track_caller]
    pub fn sees_no(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        let all = format!("[...document.querySelectorAll({selector})]");
        self.wait(&format!(
            "!{all}.some((e) => e.checkVisibility() && e.innerText.includes({text}))"
        ));
    }

    fn element(&self, selector: &str) -> Result<String, String> {
        let found = self.call("/element", json!({"using": "css selector", "value": selector}))?;
        Ok(found[ELEMENT].as_str().unwrap().to_owned())
    }

    /// Does something to an element once it is there and can be reached.
    #[track_caller]
    fn to_element(&self, selector: &str, path: &str, body: Value) {
        let began = Instant::now();
        loop {
            let done = self
                .element(selector)
                .and_then(|element| self.call(&format!("/element/{element}/{path}"), body.clone()));
            match done {
                Ok(_) => return,
                Err(error) if began.elapsed() > PATIENCE => panic!("{selector}: {path}: {error}"),
                Err(_) => thread::sleep(PACE),
            }
        }
    }

    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.to_element(selector, "click", json!({}));
    }

    /// Types into a field, instead of what is in it.
    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) {
        self.to_element(selector, "clear", json!({}));
        self.to_element(selector, "value", json!({"text": text}));
    }

    /// Puts a long text into a field as if it were pasted.
    #[track_caller]
    pub fn paste(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.run(&format!("document.querySelector({selector}).value = {text}"));
    }

    /// Presses keys, wherever the focus is.
    pub fn press(&self, keys: &str) {
        let press = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
        });
        let actions = json!([{"type": "key", "id": "keys", "actions": press.collect::<Vec<_>>()}]);
        self.done("/actions", json!({"actions": actions}));
    }

    /// Chooses an entry of a list.
    pub fn choose(&self, selector: &str, value: &str) {
        self.click(&format!("{selector} option[value=\"{value}\"]"));
    }

    fn devtools(&self, command: &str, params: Value) -> Value {
        self.done("/goog/cdp/execute", json!({"cmd": command, "params": params}))
    }

    pub fn size(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// What the system would like: dark or light.
    pub fn prefers(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// Runs a script in front of every page from now on; its name, to take it back.
    pub fn before_pages(&self, script: &str) -> Value {
        let made =
            self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}));
        made["identifier"].clone()
    }

    pub fn no_longer_before_pages(&self, identifier: &Value) {
        let which = json!({"identifier": identifier});
        self.devtools("Page.removeScriptToEvaluateOnNewDocument", which);
    }

    /// Saves a picture of the whole page where `HOLDFAST_PICTURES` names a folder.
    pub fn picture(&self, name: &str) {
        let Some(folder) = &self.pictures else { return };
        let whole = self.run("return [innerWidth, document.documentElement.scrollHeight]");
        let clip = json!({"x": 0, "y": 0, "width": whole[0], "height": whole[1], "scale": 1});
        let wanted = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.devtools("Page.captureScreenshot", wanted);
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// What the console said since it was last asked.
    pub fn console(&self) -> Vec<String> {
        let entries = self.done("/se/log", json!({"type": "browser"}));
        let told = entries.as_array().unwrap().iter();
        told.map(|entry| format!("{}: {}", entry["level"], entry["message"])).collect()
    }

    /// Addresses that were asked since it was last asked for.
    pub fn asked(&self) -> Vec<String> {
        let entries = self.done("/se/log", json!({"type": "performance"}));
        let messages = entries.as_array().unwrap().iter().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            (message["method"] == "Network.requestWillBeSent")
                .then(|| message["params"]["request"]["url"].as_str().unwrap_or("").to_owned())
        });
        messages.collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session.
        let _ = self.runtime.block_on(async { self.client.delete(&self.session).send().await });
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The driver on a port of its own choice.
fn driver() -> (Child, u16) {
    let mut child = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("chromedriver (Debian: chromium-driver) does not start: {e}"));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        let (_, port) = line.split_once("successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    // Read to the end, so that it never waits for a reader.
    thread::spawn(move || lines.for_each(drop));
    (child, port.expect("chromedriver says its port"))
}
