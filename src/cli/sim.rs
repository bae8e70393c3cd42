//! `tipoff sim`: schedules drawn from seeds, and whether the laws hold in all of them.

use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::say::say;
use super::{Common, Fault, Verdict};
use crate::simulation::core::Core;
use crate::simulation::engine::{Below, Stage};
use crate::simulation::planted::{PLANTED, Planted};
use crate::simulation::{Failure, Played, Schedules, Seen};

/// `tipoff sim`
#[derive(Args)]
pub struct Sim {
    /// How many schedules to play [default: 1000, and 100000 of the core]
    #[arg(long, value_name = "N")]
    seeds: Option<std::num::NonZeroU64>,
    /// Play not the whole engine but the core alone, which takes a hundredth of the time
    #[arg(long)]
    core: bool,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Tell everything that happens in this one schedule
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Plant a bug and see after how many schedules it is found; `list` names them, and with --core those of the core
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// Threads to play on [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Sim {
    pub fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        if self.planted.as_deref() == Some("list") {
            return Ok(self.list(common));
        }
        let schedules = self.schedules()?;
        if let Some(seed) = self.seed {
            let is_broken = tell(common, &*schedules, seed);
            return Ok(self.verdict(is_broken));
        }
        let began = Instant::now();
        let threads = self.threads.and_then(|threads| NonZeroUsize::new(threads.into()));
        let threads = threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let seeds = self.seeds.map_or(if self.core { 100_000 } else { 1_000 }, std::num::NonZeroU64::get);
        let played = play(&*schedules, self.from, seeds, threads);
        report(common, &played, began.elapsed(), &self.options());
        Ok(self.verdict(played.failure.is_some()))
    }

    /// What was planted should be found, and nothing else.
    fn verdict(&self, is_broken: bool) -> Verdict {
        if is_broken == self.planted.is_some() { Verdict::Holds } else { Verdict::Fails }
    }

    fn schedules(&self) -> Result<Box<dyn Schedules>, Fault> {
        let unknown = |name: &str, known: &[&str]| {
            let hint = crate::diagnostic::suggestion(name, known.iter().copied());
            let options = if self.core { " --core" } else { "" };
            let list = format!("tipoff sim{options} --planted list");
            let other = if self.core { "without" } else { "with" };
            Fault::usage(anyhow::anyhow!(
                "there is no bug `{name}` to plant here{hint}; `{list}` names them, and there are others {other} --core"
            ))
        };
        let planted = self.planted.as_deref();
        if self.core {
            let known: Vec<&str> = PLANTED.iter().map(|planted| planted.name).collect();
            let named = |name: &str| Planted::named(name).ok_or_else(|| unknown(name, &known));
            return Ok(Box::new(Core::new(planted.map(named).transpose()?)));
        }
        let known = Below::ALL.map(|below| below.described().0);
        let named = |name: &str| {
            let found = Below::ALL.into_iter().find(|below| below.described().0 == name);
            found.ok_or_else(|| unknown(name, &known))
        };
        Ok(Box::new(Stage::new(planted.map(named).transpose()?).map_err(Fault::unusable)?))
    }

    /// What has to be typed once more to repeat a schedule.
    fn options(&self) -> String {
        let core = if self.core { " --core" } else { "" };
        let planted = self.planted.as_ref().map(|planted| format!(" --planted {planted}")).unwrap_or_default();
        format!("{core}{planted}")
    }

    fn list(&self, common: &Common) -> Verdict {
        let show = |name: &str, law: &str, what: &str| {
            if common.json {
                say!("{}", json!({ "name": name, "law": law, "what": what }));
            } else {
                say!("{name:<24} {law:<24} {what}");
            }
        };
        if self.core {
            PLANTED.iter().for_each(|planted| show(planted.name, planted.law, planted.what));
        } else {
            for (name, law, what) in Below::ALL.map(Below::described) {
                show(name, law, what);
            }
        }
        Verdict::Holds
    }
}

/// Tells a schedule. Whether it breaks a law.
fn tell(common: &Common, schedules: &dyn Schedules, seed: u64) -> bool {
    let (seen, result) = schedules.play(seed);
    if common.json {
        say!(
            "{}",
            json!({ "seed": seed, "story": schedules.story(seed), "seen": shown(&seen), "failure": result.as_ref().err().map(words) })
        );
    } else {
        schedules.story(seed).iter().for_each(|line| say!("{line}"));
        // What was broken, its story ends with.
        if result.is_ok() {
            say!("every law held");
        }
    }
    result.is_err()
}

fn words(failure: &Failure) -> String {
    failure.broken.to_string()
}

fn shown(seen: &Seen) -> serde_json::Value {
    json!({
        "steps": seen.steps, "decisions": seen.decisions, "dispatches": seen.dispatches, "kills": seen.kills,
        "conflicts": seen.conflicts, "redeliveries": seen.redeliveries,
    })
}

/// Plays them, and shows how far it is where somebody looks.
fn play(schedules: &dyn Schedules, from: u64, seeds: u64, threads: NonZeroUsize) -> Played {
    let is_shown = std::io::stderr().is_terminal();
    let shown = Mutex::new(Instant::now());
    let played = schedules.play_all(from, seeds, threads, &|done| {
        if is_shown
            && let Ok(mut last) = shown.try_lock()
            && last.elapsed() > Duration::from_millis(200)
        {
            *last = Instant::now();
            eprint!("\r{done} of {seeds} schedules");
        }
    });
    if is_shown {
        eprint!("\r\x1b[K");
    }
    played
}

fn report(common: &Common, played: &Played, took: Duration, bug: &str) {
    let Played { seeds, seen, failure } = played;
    let rate = *seeds as f64 / took.as_secs_f64().max(0.001);
    let bound = 3.0 / (*seeds).max(1) as f64;
    let again = failure.as_ref().map(|failure| format!("tipoff sim{bug} --seed {}", failure.seed));
    if common.json {
        say!(
            "{}",
            json!({
                "seeds": seeds, "seconds": took.as_secs_f64(), "seen": shown(seen), "again": again,
                "failure": failure.as_ref().map(|failure| json!({
                    "seed": failure.seed, "law": failure.broken.law, "text": failure.broken.text,
                })),
            })
        );
        return;
    }
    if let Some(failure) = failure {
        say!("seed {}", failure.seed);
        say!("{}", failure.broken);
    }
    say!(
        "{seeds} schedules in {:.1} s, {rate:.0} a second: {} steps, {} decisions, {} dispatches, {} kills, {} conflicts, {} redeliveries",
        took.as_secs_f64(),
        seen.steps,
        seen.decisions,
        seen.dispatches,
        seen.kills,
        seen.conflicts,
        seen.redeliveries,
    );
    match again {
        Some(again) => say!("{again}"),
        None => {
            say!("every law held in all of them: fewer than one in {:.0} breaks one, with 95 % confidence", 1.0 / bound)
        }
    }
}
