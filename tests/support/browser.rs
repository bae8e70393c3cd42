//! A real Chromium, driven over WebDriver. Where it is not installed its tests say so and prove nothing; with `CI` set that is
//! a failure. Screenshots are kept under `target/screenshots`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thirtyfour::prelude::*;

use super::emulator::{free_port, missing};

/// How long anything on a page may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Watches what a page must not do, from before its first script.
const WATCH: &str = r"
    window.tipoff_seen = { violations: [], dialogs: 0, errors: [] };
    document.addEventListener('securitypolicyviolation', (event) => window.tipoff_seen.violations.push(event.violatedDirective + ' ' + event.blockedURI));
    window.addEventListener('error', (event) => window.tipoff_seen.errors.push(event.message));
    window.addEventListener('unhandledrejection', (event) => window.tipoff_seen.errors.push(String(event.reason)));
    window.alert = window.confirm = window.prompt = () => { window.tipoff_seen.dialogs += 1; };
";

/// A browser with one window.
pub struct Browser {
    driver: WebDriver,
    _process: Driver,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A test that fails says goodbye to nobody: the driver ends with its process, and would be asked in vain.
        let _ = self.driver.clone().leak();
    }
}

struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        // Its browser would outlive it.
        let _ = Command::new("pkill").args(["-KILL", "-P", &self.0.id().to_string()]).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

impl Browser {
    /// Opens one. `scripts` says whether pages may run any.
    pub async fn open(scripts: bool) -> Option<Self> {
        let (Some(chromium), Some(driver)) = (program("chromium"), program("chromedriver")) else {
            missing("Chromium is not installed, and no page is tried: tests/support/browser.sh");
            return None;
        };
        let port = free_port();
        let mut process = Command::new(driver);
        process.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Driver(process.spawn().unwrap());
        let profile = tempfile::tempdir().unwrap();
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(chromium.to_str().unwrap()).unwrap();
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,1000",
        ] {
            wanted.add_arg(flag).unwrap();
        }
        wanted.add_arg(&format!("--user-data-dir={}", profile.path().display())).unwrap();
        let patience = Instant::now() + PATIENCE;
        let driver = loop {
            match WebDriver::new(format!("http://127.0.0.1:{port}"), wanted.clone()).await {
                Ok(driver) => break driver,
                Err(error) => assert!(Instant::now() < patience, "no browser: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let browser = Self { driver, _process: process, _profile: profile };
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WATCH })).await;
        if !scripts {
            browser.cdp("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
        }
        Some(browser)
    }

    async fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.driver.cdp().send_raw(command, parameters).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    pub async fn goto(&self, url: &str) {
        self.driver.goto(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// As large as that, as a phone is where it is narrow.
    pub async fn size(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.cdp("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// `light` or `dark`, as the system would say.
    pub async fn scheme(&self, scheme: &str) {
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.cdp("Emulation.setEmulatedMedia", feature).await;
    }

    /// What a script returns.
    pub async fn js(&self, script: &str) -> Value {
        let done = self.driver.execute(script, Vec::new()).await;
        done.unwrap_or_else(|error| panic!("{script}: {error}")).json().clone()
    }

    pub async fn find(&self, css: &str) -> WebElement {
        self.driver.find(By::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    pub async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap()
    }

    pub async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap_or_else(|error| panic!("click {css}: {error}"));
    }

    pub async fn type_into(&self, css: &str, text: &str) {
        self.find(css).await.send_keys(text).await.unwrap();
    }

    /// Presses a key on what has the focus.
    pub async fn press(&self, key: impl Into<TypingData> + Clone) {
        // A page that is live may take what has the focus away between looking and typing.
        for tries in 0.. {
            let pressed = match self.driver.active_element().await {
                Ok(focused) => focused.send_keys(key.clone().into()).await,
                Err(error) => Err(error),
            };
            match pressed {
                Ok(()) => return,
                Err(error) => assert!(tries < 5, "press a key: {error}"),
            }
        }
    }

    pub async fn url(&self) -> String {
        self.driver.current_url().await.unwrap().to_string()
    }

    /// Waits until the text of what `css` finds is as wanted, and returns it. What goes away meanwhile is looked for again.
    pub async fn until(&self, css: &str, wanted: impl Fn(&str) -> bool) -> String {
        let patience = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            if let Ok(found) = self.driver.find(By::Css(css)).await
                && let Ok(text) = found.text().await
            {
                if wanted(&text) {
                    return text;
                }
                last = text;
            }
            assert!(Instant::now() < patience, "{css} stays as it is: {last:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Keeps a picture of the whole page.
    pub async fn shot(&self, name: &str) {
        use base64::Engine as _;
        let taken = self.cdp("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let data = base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), data).unwrap();
    }

    /// Nothing was blocked, nothing failed, and nothing popped up.
    pub async fn is_quiet(&self) {
        let seen = self.js("return window.tipoff_seen").await;
        let expected = json!({ "violations": [], "dialogs": 0, "errors": [] });
        assert_eq!(seen, expected, "{}", self.url().await);
    }

    /// What keeps people from using the page, by axe-core: what is serious or worse.
    pub async fn axe(&self, source: &str) -> Vec<Value> {
        self.js(&format!("{source}; return typeof axe")).await;
        let script = "const done = arguments[arguments.length - 1]; axe.run(document, { resultTypes: ['violations'] })\
            .then((found) => done(found.violations.map((one) => ({ id: one.id, impact: one.impact, where: one.nodes.slice(0, 3)\
            .map((node) => node.html.slice(0, 160) + ' ' + (node.failureSummary || '').slice(0, 200)) }))))\
            .catch((error) => done([{ id: String(error), impact: 'critical' }]));";
        let found = self.driver.execute_async(script, Vec::new()).await.unwrap().json().clone();
        let is_serious = |one: &&Value| matches!(one["impact"].as_str(), Some("serious" | "critical"));
        found.as_array().unwrap().iter().filter(is_serious).cloned().collect()
    }

    pub async fn close(self) {
        let _ = self.driver.clone().quit().await;
    }
}

/// axe-core, as `tests/support/browser.sh` has fetched it, if it has.
pub fn axe() -> Option<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/axe/axe.min.js");
    let found = std::fs::read_to_string(file).ok();
    if found.is_none() {
        missing(
            "axe-core is not there, and nobody looks for what keeps people from using a page: tests/support/browser.sh",
        );
    }
    found
}
