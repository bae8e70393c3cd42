//! `games`: the games of a date, how the schedule and operators know them, and what each is short of.

use std::collections::BTreeSet;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::backend::Access;
use super::forecast::clock;
use super::inspect::{harmless, zone};
use super::paint::Paint;
use super::say::say;
use super::whole::Whole;
use super::{Common, Fault, Verdict};
use crate::desk::day::{self, GameView};
use crate::domain::time::shown;

/// `tipoff games [DATE]`
#[derive(Args)]
#[command(
    after_help = "Exits 1 where no schedule of the date is known. Whoever knows a game better than the schedule says \
    so with `tipoff game`."
)]
pub struct Games {
    /// Which date
    #[arg(default_value = "today")]
    date: String,
}

impl Games {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let whole = Whole::open(common, Access::Read).await?;
        let (graph, now) = (whole.graph(), whole.now);
        let key = whole.key(&self.date)?;
        let day = whole.day(&key).await?;
        let games = day::games(graph, &day);
        let read_at = day.partition.schedule.as_ref().map(|schedule| schedule.at);
        let verdict = if read_at.is_some() { Verdict::Holds } else { Verdict::Fails };
        if common.json {
            let overrides = &day.partition.overrides;
            say!(
                "{}",
                json!({ "partition": key, "zone": zone(graph), "at": now, "schedule_read_at": read_at, "games": games,
                    "overrides": overrides, "dues": day::dues(graph, &day) })
            );
            return Ok(verdict);
        }
        let paint = Paint::stdout();
        let head = paint.strong(&key.to_string());
        let Some(read_at) = read_at else {
            say!("{head} ({}): no schedule of this date is known", zone(graph));
            return Ok(verdict);
        };
        let played = games.iter().filter(|game| game.status.is_played()).count();
        say!(
            "{head} ({}): {played} of {} games are played; schedule read at {}",
            zone(graph),
            games.len(),
            shown(read_at)
        );
        let all = short_of_all(&games);
        for game in &games {
            say!("  {}", line(game, &graph.zone, now));
            if let Some(word) = day.partition.overrides.get(&game.game).filter(|word| now < word.until) {
                let (actor, reason) = (harmless(&word.actor), harmless(&word.reason));
                say!("      as {actor} says until {}: {reason}", shown(word.until));
            }
            if let Some(schedule) = day.partition.schedule.as_ref().and_then(|schedule| schedule.games.get(&game.game))
                && schedule.status != game.status
            {
                say!("      the schedule has it as {}", word(schedule.status));
            }
            let short: Vec<String> = shortages(game).filter(|short| !all.contains(short)).collect();
            if !short.is_empty() && game.status.is_played() {
                say!("      short of {}", paint.dim(&short.join(", ")));
            }
        }
        if !all.is_empty() {
            let all: Vec<String> = all.into_iter().collect();
            say!("  each of them is short of {}", paint.dim(&all.join(", ")));
        }
        Ok(verdict)
    }
}

/// What a game is short of, in words.
fn shortages(game: &GameView) -> impl Iterator<Item = String> {
    game.short_of.iter().filter_map(|(node, short)| Some(format!("{node} {}", short.as_ref()?)))
}

/// What every game that is played is short of to the same degree, where there is more than one.
fn short_of_all(games: &[GameView]) -> BTreeSet<String> {
    let mut played = games.iter().filter(|game| game.status.is_played());
    let (Some(first), true) = (played.next(), games.iter().filter(|game| game.status.is_played()).count() > 1) else {
        return BTreeSet::new();
    };
    played.fold(shortages(first).collect(), |all, game| {
        let own: BTreeSet<String> = shortages(game).collect();
        all.intersection(&own).cloned().collect()
    })
}

fn word(status: crate::domain::event::GameStatus) -> String {
    json!(status).as_str().unwrap_or_default().to_owned()
}

fn line(game: &GameView, zone: &TimeZone, now: Timestamp) -> String {
    let teams = match game.home.as_str() {
        "" => harmless(&game.away),
        home => format!("{} @ {}", harmless(&game.away), harmless(home)),
    };
    let tip = match game.tip {
        None => "no tip-off known".to_owned(),
        Some(tip) => {
            let clock = clock(tip, zone);
            let when = if tip > now {
                format!("in {}", span(tip.duration_since(now)))
            } else {
                format!("{} ago", span(now.duration_since(tip)))
            };
            format!("{clock}, {when}")
        }
    };
    format!("{teams:<12} {tip:<28} {}", word(game.status))
}

fn span(span: SignedDuration) -> String {
    match (span.as_hours(), span.as_mins() % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, _) if hours >= 48 => format!("{} days", hours / 24),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
