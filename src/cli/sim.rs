//! `tipoff sim`: schedules drawn from seeds, and whether the laws hold in all of them.

use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::say::say;
use super::{Common, Fault, Verdict};
use crate::simulation::Seen;
use crate::simulation::core::{Core, Failure, Played};
use crate::simulation::planted::{PLANTED, Planted};

/// `tipoff sim`
#[derive(Args)]
pub struct Sim {
    /// How many schedules to play
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Tell everything that happens in this one schedule
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Plant a bug and see after how many schedules it is found; `list` names them
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// Threads to play on [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl Sim {
    pub fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        if self.planted.as_deref() == Some("list") {
            return Ok(list(common));
        }
        let planted = self.planted.as_deref().map(named).transpose()?;
        let core = Core::new(planted);
        if let Some(seed) = self.seed {
            return Ok(tell(common, &core, seed));
        }
        let began = Instant::now();
        let threads = self.threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let played = play(&core, self.from, self.seeds, threads);
        let took = began.elapsed();
        let bug = planted.map(|planted| format!(" --planted {}", planted.name)).unwrap_or_default();
        report(common, &played, took, &bug);
        // What was planted should be found.
        Ok(if played.failure.is_some() == planted.is_some() { Verdict::Holds } else { Verdict::Fails })
    }
}

fn named(name: &str) -> Result<&'static Planted, Fault> {
    Planted::named(name).ok_or_else(|| {
        let hint = crate::diagnostic::suggestion(name, PLANTED.iter().map(|planted| planted.name));
        Fault::usage(anyhow::anyhow!("there is no bug `{name}`{hint}; `tipoff sim --planted list` names them"))
    })
}

fn list(common: &Common) -> Verdict {
    for planted in PLANTED {
        if common.json {
            say!("{}", json!({ "name": planted.name, "law": planted.law, "what": planted.what }));
        } else {
            say!("{:<24} {:<24} {}", planted.name, planted.law, planted.what);
        }
    }
    Verdict::Holds
}

fn tell(common: &Common, core: &Core, seed: u64) -> Verdict {
    let (seen, result) = core.play(seed);
    if common.json {
        say!(
            "{}",
            json!({ "seed": seed, "story": core.story(seed), "seen": shown(&seen), "failure": result.as_ref().err().map(words) })
        );
    } else {
        core.story(seed).iter().for_each(|line| say!("{line}"));
    }
    if result.is_ok() { Verdict::Holds } else { Verdict::Fails }
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
fn play(core: &Core, from: u64, seeds: u64, threads: NonZeroUsize) -> Played {
    let is_shown = std::io::stderr().is_terminal();
    let shown = Mutex::new(Instant::now());
    let played = core.play_all(from, seeds, threads, &|done| {
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
    let again = failure.as_ref().map(|failure| format!("tipoff sim --seed {}{bug}", failure.seed));
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
        say!("seed {}: {}", failure.seed, failure.broken);
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
