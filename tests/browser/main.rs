//! The pages in a real Chromium: a day unfolds, a node is explained, a hold is set and lifted, on a phone and in the dark,
//! with names that mean harm.

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/emulator.rs"]
mod emulator;
#[path = "../support/running.rs"]
mod running;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use browser::Browser;
use running::{Running, completion, heartbeat, today};
use serde_json::{Value, json};
use thirtyfour::Key;

#[tokio::test]
async fn a_day_unfolds_without_a_reload() {
    let Some(browser) = Browser::open(true).await else { return };
    let demo = Running::demo(&["--day", "game-day", "--speed", "9000", "--stay"]).await;
    browser.goto(&format!("{}/ui/nba/2026-01-29", demo.url)).await;
    browser.until("#live", |text| text == "live").await;
    browser.js("window.same_page = true").await;
    let mut seen = BTreeSet::new();
    let patience = Instant::now() + Duration::from_secs(40);
    loop {
        let phases = browser
            .js("return [...document.querySelectorAll('.phase')].map((phase) => phase.innerText).join('|')")
            .await;
        seen.insert(phases.as_str().unwrap().to_owned());
        let verdict = browser.js("return document.querySelector('.verdict').innerText").await;
        if seen.len() == 4 {
            browser.shot("a-day-unfolding").await;
        }
        if verdict.as_str().unwrap().contains("Complete") {
            break;
        }
        assert!(Instant::now() < patience, "the day never ends: {verdict}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(seen.len() > 6, "the day was seen in {} states only", seen.len());
    assert!(seen.iter().any(|phases| phases.contains("working")), "nobody was seen at work: {seen:?}");
    assert_eq!(browser.js("return window.same_page").await, true, "the page was loaded again");
    assert!(browser.text("header").await.contains("a recorded day"));
    browser.is_quiet().await;
    // The chart has a bar for whoever ran.
    browser.goto(&format!("{}/ui/nba/2026-01-29/timeline", demo.url)).await;
    let ran = browser.js("return document.querySelectorAll('.gantt rect.ran').length").await;
    assert!(ran.as_u64().unwrap() > 3, "{ran} bars");
    browser.shot("timeline").await;
    browser.close().await;
}

#[tokio::test]
async fn a_blocked_node_is_explained_beside_the_graph_and_without_scripts_on_its_page() {
    let Some(browser) = Browser::open(true).await else { return };
    // Slow enough that the day has hardly begun.
    let demo = Running::demo(&["--day", "game-day", "--speed", "1"]).await;
    let graph = format!("{}/ui/nba/2026-01-29/graph", demo.url);
    browser.goto(&graph).await;
    browser.until("#live", |text| text == "live").await;
    let node = "svg.graph a[href$='/node/predictions']";
    let before = browser.url().await;
    browser.js(&format!("document.querySelector(\"{node}\").scrollIntoView({{ inline: 'center' }})")).await;
    browser.click(node).await;
    let why = browser.until("#panel", |text| text.contains("predictions")).await;
    assert!(why.contains("waiting and blocked") && why.contains("ml_feature_store"), "{why}");
    assert!(why.contains("tipoff force 2026-01-29"), "no way out is named: {why}");
    assert_eq!(browser.url().await, before);
    browser.shot("why-beside-the-graph").await;
    // By keyboard: the focus is on what was opened, Escape closes it, and the focus is back where it was.
    assert_eq!(browser.js("return document.activeElement.tagName").await, "H1");
    let text = browser.js("return document.activeElement.innerText").await;
    assert!(text.as_str().unwrap().contains("predictions"), "{text}");
    // A refresh moves neither.
    browser.js("document.querySelector('#panel h1').same = true").await;
    for _ in 0..2 {
        browser.js("document.dispatchEvent(new Event('visibilitychange'))").await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    assert_eq!(browser.js("return document.activeElement.same === true").await, true);
    assert_eq!(browser.js("return document.querySelectorAll('body body, #panel aside').length").await, 0);
    browser.press(Key::Escape).await;
    assert_eq!(browser.js("return document.getElementById('panel').hidden").await, true);
    assert!(
        browser
            .js("return document.activeElement.getAttribute('href')")
            .await
            .as_str()
            .unwrap()
            .ends_with("/node/predictions")
    );
    browser.press(Key::Enter).await;
    browser.until("#panel", |text| text.contains("waiting and blocked")).await;
    browser.is_quiet().await;
    browser.close().await;

    let Some(plain) = Browser::open(false).await else { return };
    plain.goto(&graph).await;
    plain.find(&format!("{node} rect")).await.scroll_into_view().await.unwrap();
    plain.click(node).await;
    assert!(plain.url().await.ends_with("/2026-01-29/node/predictions"));
    assert!(plain.text("#why").await.contains("waiting and blocked"));
    assert_eq!(plain.text("#live").await, "reload to refresh");
    plain.close().await;
}

#[tokio::test]
async fn a_hold_is_foreseen_set_seen_and_lifted() {
    let Some(browser) = Browser::open(true).await else { return };
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    let done = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "r1", "success");
    assert!(service.publish("nba-phase3-analytics-complete", &done).await.is_success());
    let holds = || service.journal().iter().filter(|entry| entry.contains("\"command\":\"hold\"")).count();
    let page = format!("{}/ui/nba/{}/node/predictions", service.url, today());
    browser.goto(&page).await;
    browser.click("a[href*='command=hold'].button").await;
    let foreseen = browser.text(".foreseen").await;
    assert!(foreseen.contains("predictions would be"), "{foreseen}");
    assert!(foreseen.contains("held by operator"), "{foreseen}");
    browser.shot("a-hold-foreseen").await;
    assert_eq!(holds(), 0, "a preview held it");
    browser.type_into("input[name=reason]", "the model is looked at").await;
    browser.click("button.primary").await;
    browser.until("[role=status].banner", |text| text.contains("Done")).await;
    assert!(browser.text("#why").await.contains("held by operator: the model is looked at"));
    assert_eq!(holds(), 1);
    // Who goes back and sends the same form again has asked once.
    browser.js("history.back()").await;
    browser.until("button.primary", |text| text.contains("Hold predictions")).await;
    browser.js("document.querySelector('input[name=reason]').value = 'the model is looked at'").await;
    browser.click("button.primary").await;
    browser.until("[role=status].banner", |text| !text.is_empty()).await;
    assert!(holds() <= 2, "{}", holds());
    let status = service.get("/v1/pipelines/nba/dates/today").await;
    let precompute = status["phases"].as_array().unwrap().iter().find(|phase| phase["phase"] == "predictions").unwrap();
    assert_eq!(precompute["held"], 1, "{status}");

    // Somebody lifts it elsewhere, and the page says so by itself.
    browser.goto(&page).await;
    browser.until("#live", |text| text == "live").await;
    let words = json!({ "command": "resume", "node": "predictions", "actor": "bob", "reason": "it is sound" });
    let (code, answer) = service.post("/v1/pipelines/nba/dates/today/requests", Some("r"), &words).await;
    assert_eq!(code, 200, "{answer}");
    browser.until("#why", |text| !text.contains("held by")).await;
    let log = browser.until("ol.log", |text| text.contains("it is sound")).await;
    assert!(log.contains("resume predictions by bob"), "{log}");

    // The whole pipeline, and back.
    browser.goto(&format!("{}/ui/nba/stop", service.url)).await;
    browser.type_into("input[name=reason]", "all services are deployed").await;
    browser.click("button.primary").await;
    browser.until(".banner.bad", |text| text.contains("all services are deployed")).await;
    browser.click(".banner.bad a").await;
    browser.type_into("input[name=reason]", "done").await;
    browser.click("button.primary").await;
    browser.until("[role=status].banner", |text| text.contains("no longer held")).await;
    browser.is_quiet().await;
    browser.close().await;
}

#[tokio::test]
async fn a_dead_letter_is_foreseen_replayed_once_and_one_is_discarded() {
    let Some(browser) = Browser::open(true).await else { return };
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    // Two inputs are parked, and are letters with one cause each; one of them is put right.
    let mut wrong = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "r1", "success");
    wrong["status"] = json!("no-such-status");
    for (topic, body) in [
        ("nba-phase3-analytics-complete", &wrong),
        ("nba-phase2-raw-complete", &json!({ "processor_name": "NobodyProcessor", "status": "success" })),
    ] {
        assert!(service.publish(topic, body).await.is_success());
    }
    let letters = service.get("/v1/dead-letters").await;
    assert_eq!(letters["count"], 2, "{letters}");
    let all = letters["letters"].as_array().unwrap();
    let letter = all.iter().find(|letter| letter["topic"] == "nba-phase3-analytics-complete").unwrap();
    let (id, cause) = (letter["id"].as_str().unwrap(), letter["cause"]["fingerprint"].as_str().unwrap());
    wrong["status"] = json!("success");
    let words = json!({ "with": wrong.to_string(), "actor": "ann", "reason": "the word is success" });
    let (code, answer) = service.post(&format!("/v1/dead-letters/{id}/correct"), Some("c"), &words).await;
    assert_eq!(code, 200, "{answer}");
    let replays = async || {
        let all = service.get("/v1/dead-letters?all=true").await;
        let letters = all["letters"].as_array().unwrap().clone();
        letters.iter().map(|letter| letter["replays"].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    browser.goto(&format!("{}/ui/nba/letters", service.url)).await;
    browser.shot("letters-by-cause").await;
    browser.click(&format!("#causes a[href*='act=replay'][href*='{cause}']")).await;
    let foreseen = browser.text(".foreseen").await;
    assert!(foreseen.contains("1 ready") && foreseen.contains("player_game_summary"), "{foreseen}");
    browser.shot("a-replay-foreseen").await;
    assert_eq!(replays().await, 0, "a preview replayed it");
    browser.type_into("input[name=reason]", "the word is known now").await;
    browser.click("button.primary").await;
    browser.until("[role=status].banner", |text| text.contains("Replayed")).await;
    assert_eq!(replays().await, 1);
    let settled = browser.until("#settled", |text| text.contains("the word is known now")).await;
    assert!(settled.contains("replayed by operator"), "{settled}");
    // Who goes back and sends the same form again has asked once.
    browser.js("history.back()").await;
    browser.until("button.primary", |text| text.contains("Replay 1 letter")).await;
    browser.js("document.querySelector('input[name=reason]').value = 'the word is known now'").await;
    browser.click("button.primary").await;
    browser.until("[role=status].banner", |text| !text.is_empty()).await;
    assert_eq!(replays().await, 1, "one form replayed twice");

    browser.goto(&format!("{}/ui/nba/letters", service.url)).await;
    browser.click("#causes a[href*='act=discard']").await;
    browser.type_into("input[name=reason]", "nobody needs it").await;
    browser.click("button.primary").await;
    browser.until("[role=status].banner", |text| text.contains("Discarded")).await;
    browser.until("#settled", |text| text.contains("discarded by operator") && text.contains("nobody needs it")).await;
    browser.is_quiet().await;
    browser.close().await;
}

/// Names, reasons and bodies that mean harm, wherever a producer or an operator can put one.
async fn poisoned() -> Running {
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    let script = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>";
    let turned = "\u{202e}\u{2066}evil\u{2069}\u{200f} \u{5e9}\u{5dc}\u{5d5}\u{5dd}";
    let long = "x".repeat(10_000);
    for name in [script, turned, &long] {
        let done = completion(name, "phase_3_analytics", "r", "success");
        service.publish("nba-phase3-analytics-complete", &done).await;
    }
    let mut failed = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "f", "failed");
    failed["error_message"] = json!(format!("{script}{turned}{long}"));
    assert!(service.publish("nba-phase3-analytics-complete", &failed).await.is_success());
    for run in [script, turned, &long[..900]] {
        service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", run, 1, 9)).await;
    }
    let reason = format!("{script}{turned}");
    let hold = json!({ "command": "hold", "node": "predictions", "actor": script, "reason": reason });
    let (code, answer) = service.post("/v1/pipelines/nba/dates/today/requests", None, &hold).await;
    assert_eq!(code, 200, "{answer}");
    let mute = json!({ "what": { "key": format!("late:{script}") }, "for": "1h", "actor": turned, "reason": reason });
    let (code, answer) = service.post("/v1/alerts/mute", None, &mute).await;
    assert_eq!(code, 200, "{answer}");
    service
}

/// Every page, of one date.
fn pages(date: &str) -> Vec<(&'static str, String)> {
    let of = |rest: &str| format!("/ui/nba/{date}{rest}");
    vec![
        ("today", of("")),
        ("graph", of("/graph")),
        ("timeline", of("/timeline")),
        ("node", of("/node/player_game_summary")),
        ("held-node", of("/node/predictions")),
        ("ask", of("/ask?command=retry&node=player_game_summary")),
        ("runs", "/ui/nba/runs".to_owned()),
        ("calendar", "/ui/nba/calendar".to_owned()),
        ("alerts", "/ui/nba/alerts".to_owned()),
        ("letters", "/ui/nba/letters".to_owned()),
        ("settle", "/ui/nba/letters/settle?act=replay&cause=none".to_owned()),
        ("stop", "/ui/nba/stop".to_owned()),
    ]
}

#[tokio::test]
async fn names_that_mean_harm_do_none() {
    let Some(browser) = Browser::open(true).await else { return };
    let service = poisoned().await;
    let mut shown = String::new();
    for (name, path) in pages(&today().to_string()) {
        browser.goto(&format!("{}{path}", service.url)).await;
        browser.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })").await;
        // Whatever is an element is one of ours.
        let strange = browser.js("return document.querySelectorAll('body script, img, iframe, object, embed, svg[onload], [onerror]').length").await;
        assert_eq!(strange, 0, "{name}: an element that is not ours");
        let text = browser.js("return document.body.textContent").await;
        let text = text.as_str().unwrap();
        assert!(
            !text
                .chars()
                .any(|letter| matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200f}')),
            "{name}"
        );
        let longest = text.split_whitespace().map(str::len).max().unwrap_or(0);
        assert!(longest < 2_000, "{name}: a word of {longest} letters");
        browser.is_quiet().await;
        browser.size(390, 844).await;
        no_sideways(&browser, name).await;
        browser.size(1280, 1000).await;
        shown.push_str(text);
    }
    assert!(shown.contains("<script>alert(1)</script>"), "what was sent is not shown as it was");
    browser.goto(&format!("{}/ui/nba/letters", service.url)).await;
    browser.shot("names-that-mean-harm").await;
    // Beside the graph, too, where a script puts it.
    browser.goto(&format!("{}/ui/nba/{}/graph", service.url, today())).await;
    browser.js("document.querySelector(\"a.chip[href$='/node/predictions']\").click()").await;
    // Brackets would look like what the service says of a caller, and are left out of a name.
    browser.until("#panel", |text| text.contains("held by <script>alert1")).await;
    browser.is_quiet().await;
    browser.close().await;
}

async fn no_sideways(browser: &Browser, name: &str) {
    let widths =
        browser.js("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]").await;
    assert!(widths[0].as_u64() <= widths[1].as_u64(), "{name} scrolls sideways on a phone: {widths}");
}

#[tokio::test]
async fn every_page_fits_a_phone_and_is_open_to_everybody_by_day_and_by_night() {
    let Some(browser) = Browser::open(true).await else { return };
    let Some(axe) = browser::axe() else { return browser.close().await };
    let demo = Running::demo(&["--day", "jan-23", "--fast", "--stay"]).await;
    let served = poisoned().await;
    // The day of the demo is over when its last node stands still.
    browser.goto(&format!("{}/ui/nba/2026-01-23", demo.url)).await;
    let mut wrong: Vec<(String, Value)> = Vec::new();
    for (service, from, date) in [(&demo, "demo", "2026-01-23".to_owned()), (&served, "service", today().to_string())] {
        for (name, path) in pages(&date) {
            browser.goto(&format!("{}{path}", service.url)).await;
            for scheme in ["light", "dark"] {
                browser.scheme(scheme).await;
                let found = browser.axe(&axe).await;
                wrong.extend(found.into_iter().map(|one| (format!("{from} {name} {scheme}"), one)));
                browser.shot(&format!("{from}-{name}-{scheme}")).await;
            }
            browser.size(390, 844).await;
            no_sideways(&browser, name).await;
            browser.shot(&format!("{from}-{name}-phone")).await;
            browser.size(1280, 1000).await;
            browser.is_quiet().await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    browser.close().await;
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let Some(browser) = Browser::open(true).await else { return };
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    let hold =
        json!({ "command": "hold", "node": "predictions", "actor": "eve", "reason": "another site" }).to_string();
    let form = format!("command=hold&node=predictions&key={}&reason=r&actor=eve", uuid::Uuid::new_v4());
    let page = format!(
        r#"<!doctype html><title>evil</title><p id="done">not yet</p>
        <form id="form" method="post" action="{url}/ui/nba/today/ask">
          <input name="command" value="hold"><input name="node" value="predictions"><input name="reason" value="r">
          <input name="actor" value="eve"><input name="key" value="{key}">
        </form>
        <script>(async () => {{
          const post = (path, body, type, mode) => fetch("{url}" + path, {{ method: "POST", mode, credentials: "include", body, headers: {{ "content-type": type }} }});
          const ask = "/v1/pipelines/nba/dates/today/requests", hold = '{hold}', form = "{form}";
          const image = (path) => new Promise((done) => {{ const one = new Image(); one.onload = one.onerror = done; one.src = "{url}" + path; }});
          const tries = [
            () => post(ask, hold, "text/plain", "no-cors"),
            () => post(ask, hold, "application/json", "cors"),
            () => post("/ui/nba/today/ask", form, "application/x-www-form-urlencoded", "no-cors"),
            () => post("/v1/projects/p/topics/nba-phase2-raw-complete:publish", '{{"messages":[{{"data":"e30="}}]}}', "text/plain", "no-cors"),
            () => navigator.sendBeacon("{url}" + ask, hold),
            () => image("/game-coverage-alert"),
            () => fetch("{url}/v1/stops").then(() => {{ document.title = "read"; }}),
          ];
          let count = 0;
          for (const one of tries) {{ try {{ await one(); }} catch {{}} count += 1; }}
          document.getElementById("done").textContent = "tried " + count;
        }})();</script>"#,
        url = service.url,
        key = uuid::Uuid::new_v4(),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = format!("http://{}/", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(move || async move { axum::response::Html(page) });
    tokio::spawn(async move { axum::serve(listener, router).await });
    browser.goto(&other).await;
    browser.until("#done", |text| text == "tried 7").await;
    assert_eq!(browser.js("return document.title").await, "evil", "it has read what is ours");
    // A form takes its user along, and shows that it was refused.
    browser.js("document.getElementById('form').submit()").await;
    browser.until("body", |text| text.contains("refused")).await;
    assert_eq!(service.journal().len(), 0, "another site has changed something");
    assert_eq!(service.get("/v1/alerts").await["alerts"], json!([]));
    // A page of ours may, by the very same call.
    browser.goto(&format!("{}/ui/nba/today", service.url)).await;
    let call = format!(
        "fetch('/ui/nba/today/ask', {{ method: 'POST', body: '{form}', headers: {{ 'content-type': 'application/x-www-form-urlencoded' }} }}).then(() => {{ document.title = 'sent'; }})"
    );
    browser.js(&call).await;
    let patience = Instant::now() + Duration::from_secs(20);
    while service.journal().is_empty() {
        assert!(Instant::now() < patience, "not even our own page may");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    browser.close().await;
}
