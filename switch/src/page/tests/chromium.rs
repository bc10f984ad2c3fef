//! A headless Chromium with one page, driven by its DevTools protocol through pipes: no port that
//! others could reach.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::served::Served;

/// Much longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the page says of a daemon that doesn't answer; empty: nothing.
pub(super) const NOTICE: &str = "document.getElementById('notice').hidden ? '' : \
    document.getElementById('notice').innerText";

/// Collects what went wrong, and how long each refresh took, in milliseconds.
const WATCH: &str = "
    window.wrong = []; window.took = [];
    addEventListener('error', (event) => wrong.push(event.message));
    addEventListener('unhandledrejection', (event) => wrong.push(String(event.reason)));
    addEventListener('securitypolicyviolation', (event) => wrong.push(event.violatedDirective));
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
        took.push(entry.duration);
    })).observe({ entryTypes: ['measure'] });
";

/// The browser, on the page of a server.
#[derive(Debug)]
pub(super) struct Chromium {
    browser: Child,
    input: ChildStdin,
    output: Receiver<Value>,
    n_calls: u64,
    session: Option<String>,
    /// Its profile.
    _profile: TempDir,
}

impl Chromium {
    /// On this page, once it shows a report. None: there is no Chromium here; that is said, or
    /// fails where nothing may be skipped.
    pub(super) fn on(served: &Served) -> Option<Self> {
        Self::sized(served, "", (1280, 800))
    }

    /// The same in a window of this width and height. `fragment`: of the address.
    pub(super) fn sized(served: &Served, fragment: &str, size: (u32, u32)) -> Option<Self> {
        let mut chromium = Self::start()?;
        chromium.resize(size, false);
        chromium.call("Page.enable", json!({}));
        chromium.call(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({ "source": WATCH }),
        );
        let url = format!("http://{}/{fragment}", served.address());
        chromium.call("Page.navigate", json!({ "url": url }));
        chromium.until("document.querySelector('#about dd') && took.length > 0");
        Some(chromium)
    }

    fn start() -> Option<Self> {
        if Command::new("chromium").arg("--version").output().is_err() {
            let why = "the status page is tested in chromium, which is not installed";
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "in CI nothing may be skipped: {why}"
            );
            eprintln!("SKIPPED: {why}");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Command::new("sh");
        // It reads commands from file 3 and answers on file 4.
        browser
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >&2"])
            .args(["chromium", "--headless=new", "--remote-debugging-pipe"])
            // As root its sandbox can't be used; it sees nothing but our own page.
            .args(["--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args(["--disable-sync", "--no-proxy-server", "--mute-audio"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank");
        browser.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut browser = browser.stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (
            browser.stdin.take().unwrap(),
            browser.stdout.take().unwrap(),
        );
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                if sender
                    .send(serde_json::from_slice(&message).unwrap())
                    .is_err()
                {
                    return;
                }
            }
        });
        let mut chromium = Self {
            browser,
            input,
            output: receiver,
            n_calls: 0,
            session: None,
            _profile: profile,
        };
        let target = chromium.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = chromium.call("Target.attachToTarget", attach);
        chromium.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        Some(chromium)
    }

    /// A command of the protocol, and its result.
    pub(super) fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn answer(&mut self, method: &str, params: Value) -> Value {
        self.n_calls += 1;
        let mut message = json!({ "id": self.n_calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input
            .write_all(format!("{message}\0").as_bytes())
            .unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = self.output.recv_timeout(left);
            let answer = answer.unwrap_or_else(|e| panic!("{method}: {e}"));
            if answer["id"] == self.n_calls {
                return answer;
            }
        }
    }

    /// The value of an expression, once it is settled.
    pub(super) fn value(&mut self, expression: &str) -> Value {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true
        });
        let result = self.call("Runtime.evaluate", params);
        let wrong = result.get("exceptionDetails");
        assert!(wrong.is_none(), "{expression}: {wrong:?}");
        result["result"]["value"].clone()
    }

    /// The same of one whose value is a text.
    pub(super) fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression);
        let text = value.as_str();
        text.unwrap_or_else(|| panic!("{expression}: {value}"))
            .to_owned()
    }

    /// Waits until this holds.
    pub(super) fn until(&mut self, condition: &str) {
        let ms = PATIENCE.as_millis() / 2;
        let expression = format!(
            "new Promise((settle) => {{
                const end = performance.now() + {ms};
                const look = () => {{
                    if ({condition}) settle(true);
                    else if (performance.now() > end) settle(false);
                    else setTimeout(look, 20);
                }};
                look();
            }})"
        );
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true
        });
        // It is lost if the page is loaded anew meanwhile.
        let lost = |answer: &Value| answer.get("error").is_some();
        let mut answer = self.answer("Runtime.evaluate", params.clone());
        while lost(&answer) {
            answer = self.answer("Runtime.evaluate", params.clone());
        }
        let result = &answer["result"];
        assert!(
            result.get("exceptionDetails").is_none(),
            "{condition}: {result}"
        );
        let held = &result["result"]["value"];
        if *held != true {
            let seen = self.text("document.body.innerText");
            panic!("it never came to {condition}; the page says:\n{seen}");
        }
    }

    /// Waits for this many more refreshes.
    pub(super) fn refreshes(&mut self, n: usize) {
        self.value("window.before = took.length");
        self.until(&format!("took.length >= before + {n}"));
    }

    pub(super) fn resize(&mut self, (width, height): (u32, u32), is_dark: bool) {
        let params = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500
        });
        self.call("Emulation.setDeviceMetricsOverride", params);
        let scheme = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
    }

    /// A key is pressed and released.
    pub(super) fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "ArrowUp" => 38,
            "ArrowDown" => 40,
            _ => panic!("no code of {key} is known"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let params = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
                "text": if kind == "keyDown" { text } else { "" },
            });
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Text is typed where the focus is.
    pub(super) fn types(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// The mouse moves to the middle of this element.
    pub(super) fn point_at(&mut self, selector: &str) {
        let at = self.value(&format!(
            "(() => {{
                const box = document.querySelector({selector:?}).getBoundingClientRect();
                return {{ x: box.x + box.width / 2, y: box.y + box.height / 2 }};
            }})()"
        ));
        let params = json!({ "type": "mouseMoved", "x": at["x"], "y": at["y"] });
        self.call("Input.dispatchMouseEvent", params);
    }

    /// What is seen, as PNG in base64.
    pub(super) fn picture(&mut self) -> String {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        picture["data"].as_str().unwrap().to_owned()
    }

    /// Checks that no script failed, that none was kept from what it wanted, and that the daemon is
    /// not said to be silent.
    pub(super) fn is_well(&mut self) {
        assert_eq!(self.text(NOTICE), "");
        assert_eq!(self.value("wrong"), json!([]));
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It ends its own processes when it is told to; killed, it ends in any case.
        let close = json!({ "id": 0, "method": "Browser.close" });
        let _ = self.input.write_all(format!("{close}\0").as_bytes());
        let end = Instant::now() + Duration::from_secs(5);
        while self
            .output
            .recv_timeout(end.saturating_duration_since(Instant::now()))
            .is_ok()
        {}
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
