//! `tipoff demo`: a recorded day through the real engine, sped up, on a directory that is gone afterwards.
//!
//! On a terminal the graph is redrawn as it moves, and the pages show the same day in a browser; elsewhere every line is
//! printed, and nothing waits unless somebody may be looking at the pages.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write as _, stdout};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use clap::{Args, ValueEnum};
use crossterm::{cursor, execute, queue, style, terminal};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use super::paint::Paint;
use super::say::say;
use super::simulate::line;
use super::{Common, Fault, Verdict};
use crate::clock::Clock;
use crate::domain::effect::Turn;
use crate::domain::time::shown;
use crate::domain::view::PartitionView;
use crate::engine::run::Inbox;
use crate::engine::{Engine, Settings};
use crate::http::caller::Callers;
use crate::http::guard::Guard;
use crate::http::{self, App, Mode, Screen};
use crate::port::Store;
use crate::scenario::file::Scenario;
use crate::scenario::run::{declarations, run};
use crate::scenario::seen::{Entry, What};
use crate::scenario::world::{Moment, Regime};
use crate::wire::kept::Text;

const GAME_DAY: (&str, &str) = ("game-day.yaml", include_str!("../../demo/game-day.yaml"));
const JANUARY_23: (&str, &str) = ("jan-23.yaml", include_str!("../../demo/jan-23.yaml"));

/// The longest wait between two moments, however long nothing happened.
const WAIT_MAX: Duration = Duration::from_millis(400);
/// Where the pages are where nothing is said, as the service has it.
const USUAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8085));
/// How often it is looked for what has been decided, while a browser listens.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Lines of what happened that are kept on the screen.
const LINES: usize = 10;

/// `tipoff demo`
#[derive(Args)]
pub struct Demo {
    /// Which day
    #[arg(long, value_enum, default_value_t = Day::All)]
    day: Day,
    /// Seconds of the day a second
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    speed: u32,
    /// Do not wait between moments
    #[arg(long)]
    fast: bool,
    /// Where to show the day in a browser; loopback only [default: 127.0.0.1:8085 on a terminal, else nowhere]
    #[arg(long, value_name = "ADDRESS", value_parser = crate::configuration::listen)]
    listen: Option<SocketAddr>,
    /// Keep the pages when the last day is over, until Ctrl-C
    #[arg(long)]
    stay: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Day {
    #[value(name = "game-day")]
    Normal,
    #[value(name = "jan-23")]
    January23,
    All,
}

/// Listens, from this call on, for whoever wants the demo to end: what is waited for may begin only afterwards.
fn interruption() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    {
        let mut interrupted = tokio::signal::windows::ctrl_c()?;
        Ok(async move {
            interrupted.recv().await;
        })
    }
}

impl Demo {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let days: &[(&str, &str)] = match self.day {
            Day::Normal => &[GAME_DAY],
            Day::January23 => &[JANUARY_23],
            Day::All => &[GAME_DAY, JANUARY_23],
        };
        let (topics, pipelines) = common.texts()?;
        let mut interruption = pin!(interruption().map_err(Fault::unusable)?);
        let mut pages = self.pages(common).await?;
        let mut holds = true;
        for (name, text) in days {
            let scenario = Scenario::read(name, text).map_err(Fault::usage)?;
            let declared =
                declarations(&scenario, (&topics.0, &topics.1), (&pipelines.0, &pipelines.1)).map_err(Fault::usage)?;
            let mut stage = Stage::new(self, common, &scenario, pages.as_ref());
            let playing = run(&scenario, &declared, Regime::Plain, |moment| {
                if let Some(pages) = &mut pages {
                    pages.show(moment);
                }
                stage.show(moment);
            });
            let played = tokio::select! {
                played = playing => played,
                // Dropping the day removes its directory: nothing is left behind.
                () = &mut interruption => {
                    let _ = execute!(stdout(), cursor::Show);
                    return Err(Fault::interrupted());
                }
            };
            let report = played.map_err(|error| Fault::unusable(anyhow::anyhow!("{name}: {error}")))?;
            stage.leave();
            holds &= report.misses.is_empty();
            stage.sum_up(&report.misses.iter().map(|miss| miss.text.clone()).collect::<Vec<_>>());
        }
        if let Some(pages) = pages.filter(|_| self.stay) {
            if !common.json {
                say!("The last day stays at {} until Ctrl-C.", pages.url);
            }
            interruption.await;
        }
        if !common.json {
            say!("Yours: `tipoff serve`, then `tipoff status`, `tipoff why predictions`. The days are in demo/.");
        }
        Ok(if holds { Verdict::Holds } else { Verdict::Fails })
    }
}

impl Demo {
    /// Begins to show the days in a browser, where somebody may be looking.
    async fn pages(&self, common: &Common) -> Result<Option<Pages>, Fault> {
        if self.listen.is_some() && self.fast && !self.stay {
            let why = "--listen: with --fast the day is over before anybody looks; --stay keeps its pages";
            return Err(Fault::usage(anyhow::anyhow!(why)));
        }
        let usual = is_live(self, common).then_some(USUAL);
        let Some(address) = self.listen.or(usual).filter(|_| !self.fast || self.stay) else { return Ok(None) };
        if !address.ip().is_loopback() {
            return Err(Fault::usage(anyhow::anyhow!(
                "{address} is not loopback: a demo is shown on this machine only"
            )));
        }
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            // A service may be running there already.
            Err(_) if self.listen.is_none() => TcpListener::bind((address.ip(), 0)).await.map_err(Fault::unusable)?,
            Err(error) => return Err(Fault::unusable(anyhow::anyhow!("listen on {address}: {error}"))),
        };
        let pages = Pages::serve(listener, common.declared()?).map_err(Fault::unusable)?;
        if common.json {
            say!("{}", json!({ "entry": "listening", "url": pages.url }));
        } else {
            say!("listening on {}", pages.url);
        }
        Ok(Some(pages))
    }
}

/// Whether the day is redrawn as it moves.
fn is_live(demo: &Demo, common: &Common) -> bool {
    stdout().is_terminal() && !common.json && !demo.fast
}

/// The pages of the day that is played, in a browser.
struct Pages {
    url: String,
    current: Arc<RwLock<Router>>,
    /// The store that is shown; a day that is killed opens another, and so does the next day.
    shown: Option<Arc<dyn Store>>,
    /// What the days are played on, before what a scenario changes of it.
    declared: Arc<(Text, Text)>,
    stop: watch::Sender<bool>,
}

impl Pages {
    fn serve(listener: TcpListener, declared: (Text, Text)) -> std::io::Result<Self> {
        let url = format!("http://{}", listener.local_addr()?);
        let begins =
            || async { (StatusCode::SERVICE_UNAVAILABLE, [("refresh", "1")], "The day begins in a moment.\n") };
        let current = Arc::new(RwLock::new(Router::new().fallback(begins)));
        let router = Arc::clone(&current);
        let every = Router::new().fallback(move |request: Request| {
            let router = router.read().unwrap_or_else(PoisonError::into_inner).clone();
            router.oneshot(request)
        });
        // It ends with the process.
        tokio::spawn(async move { axum::serve(listener, every).await });
        Ok(Self { url, current, shown: None, declared: Arc::new(declared), stop: watch::Sender::new(false) })
    }

    fn show(&mut self, moment: &Moment<'_>) {
        let stage = &moment.stage;
        if self.shown.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, stage.store)) {
            return;
        }
        // Who listened to the day before comes back for this one.
        self.stop.send_replace(true);
        self.stop = watch::Sender::new(false);
        let engine = Engine::new(
            Arc::clone(stage.declarations),
            Arc::clone(stage.store),
            Arc::clone(stage.bus),
            Arc::new(stage.warehouse.clone()),
            Clock::clone(stage.clock),
            Settings::default(),
        );
        let app = App {
            engine: Arc::new(engine),
            inbox: Inbox::closed(),
            local: None,
            effective: Arc::default(),
            settings: None,
            declared: Arc::clone(&self.declared),
            guard: Arc::new(Guard::new(Callers::local(), None)),
            retold: Arc::default(),
            room: Arc::new(Semaphore::new(0)),
            screen: Arc::new(Screen::new(Mode::Recording, LOOK_EVERY)),
            stopping: self.stop.subscribe(),
            reload: None,
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = http::recording(app);
        self.shown = Some(Arc::clone(stage.store));
    }
}

/// Where a day is shown.
struct Stage {
    title: String,
    url: Option<String>,
    story: String,
    live: bool,
    json: bool,
    wait: Option<u32>,
    paint: Paint,
    zone: TimeZone,
    last: Option<Timestamp>,
    recent: VecDeque<String>,
    dispatches: usize,
    recoveries: usize,
    raised: usize,
}

impl Stage {
    fn new(demo: &Demo, common: &Common, scenario: &Scenario, pages: Option<&Pages>) -> Self {
        let live = is_live(demo, common);
        let is_watched = live || (pages.is_some() && !demo.fast);
        let stage = Self {
            title: scenario.title.clone(),
            url: pages.map(|pages| pages.url.clone()),
            story: scenario.story.clone(),
            live,
            json: common.json,
            wait: is_watched.then_some(demo.speed),
            paint: Paint::stdout(),
            // The zone of the pipeline whose day this is.
            zone: TimeZone::get("America/New_York").unwrap_or(TimeZone::UTC),
            last: None,
            recent: VecDeque::new(),
            dispatches: 0,
            recoveries: 0,
            raised: 0,
        };
        if !stage.json {
            say!("\n{}\n\n{}", stage.paint.strong(&stage.title), stage.story);
        }
        if stage.live {
            std::thread::sleep(Duration::from_secs(3));
            let _ = queue!(stdout(), terminal::Clear(terminal::ClearType::All), cursor::Hide);
        }
        stage
    }

    fn show(&mut self, moment: &Moment<'_>) {
        for entry in moment.entries {
            self.count(entry);
            if self.json {
                say!("{}", json!(entry));
            } else if worth_telling(entry) {
                let line = format!("{}  {}", self.paint.dim(&shown(entry.at)), line(entry));
                if self.live {
                    self.recent.push_back(line);
                    if self.recent.len() > LINES {
                        self.recent.pop_front();
                    }
                } else {
                    say!("{line}");
                }
            }
        }
        if let Some(speed) = self.wait {
            let gap = self.last.map_or(0, |last| moment.at.duration_since(last).as_millis());
            let gap = u64::try_from(gap).unwrap_or(0) / u64::from(speed);
            if self.live {
                self.draw(moment);
            }
            std::thread::sleep(Duration::from_millis(gap).min(WAIT_MAX));
        }
        self.last = Some(moment.at);
    }

    fn count(&mut self, entry: &Entry) {
        match &entry.what {
            What::Sent(sent) => {
                self.dispatches += 1;
                self.recoveries += usize::from(matches!(
                    sent.manifest("cause"),
                    Some("heartbeat_dead" | "failed" | "not_started" | "coverage_short")
                ));
            }
            What::Alert { turn: Turn::Raised, .. } => self.raised += 1,
            What::Alert { .. }
            | What::Received { .. }
            | What::Settled { .. }
            | What::Moved { .. }
            | What::Told { .. }
            | What::World { .. } => {}
        }
    }

    /// Redraws the screen: the dates side by side would be too wide, so the latest two stand one under the other.
    fn draw(&self, moment: &Moment<'_>) {
        // Some terminals do not know their size, and say 0.
        let (width, height) =
            terminal::size().ok().filter(|(width, height)| *width >= 40 && *height >= 10).unwrap_or((100, 40));
        let local = self.zone.to_datetime(moment.at).strftime("%a %d %b %H:%M:%S").to_string();
        let mut lines = vec![format!("{}   {local} ET   {}", self.paint.strong(&self.title), shown(moment.at))];
        lines.extend(self.url.as_ref().map(|url| self.paint.dim(&format!("the same in a browser: {url}"))));
        for view in moment.dates.iter().rev().take(2).rev() {
            lines.push(String::new());
            lines.push(self.paint.strong(&format!("{}", view.partition)));
            lines.extend(self.nodes(view, moment.at, usize::from(width)));
            for alert in &view.alerts {
                lines.push(format!("  {} {alert}", self.paint.bad("alert")));
            }
        }
        lines.push(String::new());
        lines.extend(self.recent.iter().cloned());
        let room = usize::from(height).saturating_sub(1);
        // What has just happened matters more than the top of the graph.
        let hidden = lines.len().saturating_sub(room);
        if hidden > 0 {
            let top = 1 + usize::from(self.url.is_some());
            lines.drain(top..(top + hidden).min(lines.len()));
        }
        let mut out = stdout().lock();
        let _ = queue!(out, cursor::MoveTo(0, 0));
        for line in lines {
            let line = clipped(&line, usize::from(width));
            let _ = queue!(out, style::Print(line), terminal::Clear(terminal::ClearType::UntilNewLine));
            let _ = queue!(out, cursor::MoveToNextLine(1));
        }
        let _ = queue!(out, terminal::Clear(terminal::ClearType::FromCursorDown));
        let _ = out.flush();
    }

    /// The tasks about which something is known, in columns.
    fn nodes(&self, view: &PartitionView, at: Timestamp, width: usize) -> Vec<String> {
        const CELL: usize = 52;
        let columns = (width / CELL).max(1);
        let cells: Vec<String> = view
            .nodes
            .iter()
            .filter(|node| node.kind == "task" && node.state != "waiting")
            .map(|node| {
                let age = node.since.map_or(0, |since| at.duration_since(since).as_secs());
                let mark = if node.degraded { " degraded" } else { "" };
                let text = format!("{} {}m{mark}", node.state, age / 60);
                format!("  {:<30} {}", node.node.to_string(), self.paint.state(node.state, &format!("{text:<18}")))
            })
            .collect();
        cells.chunks(columns).map(|row| row.join(" ")).collect()
    }

    fn leave(&self) {
        if self.live {
            let mut out = stdout().lock();
            let _ = queue!(out, cursor::Show);
            let _ = out.flush();
        }
    }

    fn sum_up(&self, misses: &[String]) {
        if self.json {
            say!("{}", json!({ "entry": "verdict", "title": self.title, "holds": misses.is_empty() }));
            return;
        }
        let Self { dispatches, recoveries, raised, .. } = self;
        say!("\n{dispatches} messages sent, {recoveries} of them recoveries; {raised} alerts raised.");
        for miss in misses {
            say!("{} {miss}", self.paint.bad("missed"));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Dispatches, alerts, the world's doings and the steps of tasks; not every heartbeat.
fn worth_telling(entry: &Entry) -> bool {
    match &entry.what {
        What::Sent(_) | What::Alert { .. } | What::World { .. } => true,
        What::Moved { from, to, .. } => from != to && to != "expired",
        What::Received { .. } | What::Settled { .. } | What::Told { .. } => false,
    }
}

/// At most `width` visible characters; escape sequences take no room.
fn clipped(line: &str, width: usize) -> String {
    let mut visible = 0;
    let mut escape = false;
    let mut clipped = String::new();
    for character in line.chars() {
        match (escape, character) {
            (false, '\u{1b}') => escape = true,
            (true, letter) if letter.is_ascii_alphabetic() => {
                escape = false;
                clipped.push(letter);
                continue;
            }
            (true, _) => {}
            (false, _) => visible += 1,
        }
        if visible <= width || escape {
            clipped.push(character);
        }
    }
    clipped
}
