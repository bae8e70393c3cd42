//! `tipoff sim`: schedules drawn from seeds, and whether the laws hold in all of them.

use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::say::say;
use super::{Common, Fault, Verdict};
use crate::simulation::Seen;
use crate::simulation::core::{Core, Failure};
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
        let threads = self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
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

struct Played {
    seeds: u64,
    seen: Seen,
    /// The first that was found.
    failure: Option<Failure>,
}

/// Plays until a law does not hold, on so many threads.
fn play(core: &Core, from: u64, seeds: u64, threads: usize) -> Played {
    let next = AtomicU64::new(0);
    let found = AtomicBool::new(false);
    let played = Mutex::new(Played { seeds: 0, seen: Seen::default(), failure: None });
    let is_shown = std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (mut count, mut seen, mut failure) = (0, Seen::default(), None);
                while !found.load(Ordering::Relaxed) {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= seeds {
                        break;
                    }
                    let (one, result) = core.play(from.wrapping_add(nth));
                    (count, seen) = (count + 1, {
                        seen += one;
                        seen
                    });
                    if let Err(one) = result {
                        found.store(true, Ordering::Relaxed);
                        failure = Some(one);
                    }
                }
                let mut played = played.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                played.seeds += count;
                played.seen += seen;
                // The first in the order of seeds, as far as two were found at once.
                played.failure = [played.failure.take(), failure].into_iter().flatten().min_by_key(|one| one.seed);
            });
        }
        while is_shown && !found.load(Ordering::Relaxed) && next.load(Ordering::Relaxed) < seeds {
            std::thread::sleep(Duration::from_millis(200));
            eprint!("\r{} of {seeds} schedules", next.load(Ordering::Relaxed).min(seeds));
        }
        if is_shown {
            eprint!("\r\x1b[K");
        }
    });
    played.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
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
