//! `show`: a date as it stood at an instant, or after one of its journal's entries.
//!
//! The journal is folded up to there, and what is printed is what `status` would have printed then.

use clap::Args;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use serde_json::json;

use super::inspect::{Desk, harmless, print_why, rows, tally, zone};
use super::paint::Paint;
use super::say::say;
use super::{Common, Fault, Verdict};
use crate::desk::words::lines;
use crate::domain::effect::{Effect, Turn};
use crate::domain::graph::Graph;
use crate::domain::time::{Now, shown};
use crate::domain::view;
use crate::replay::record::{Reach, Record};
use crate::replay::walk::{Difference, Walk};

/// `tipoff show DATE`
#[derive(Args)]
pub struct Show {
    /// Which date
    date: String,
    /// As it stood then: 14:55 on that date or 2026-01-23T14:55 by the pipeline's clocks, or an instant as 2026-01-23T19:55:00Z
    #[arg(long, value_name = "TIME", group = "place")]
    at: Option<String>,
    /// As it stood after that entry of its journal; 0 is before the first [default: the last]
    #[arg(long, value_name = "N", group = "place")]
    event: Option<usize>,
    /// One entry further than --at or --event says
    #[arg(long, requires = "place", conflicts_with = "previous")]
    next: bool,
    /// One entry back
    #[arg(long)]
    previous: bool,
    /// Why this node had not run, too
    #[arg(long, value_name = "NODE")]
    why: Option<String>,
    /// Nodes of which nothing was known, too
    #[arg(long, short)]
    all: bool,
}

impl Show {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let desk = Desk::open(common).await?;
        let (graph, date) = (desk.graph(), desk.date(&self.date)?);
        let record = Record::read(&*desk.store, &desk.key(date)).await.map_err(Fault::unusable)?;
        let reach = record.reach(graph);
        if reach == Reach::Nothing {
            return Err(Fault::usage(anyhow::anyhow!("nothing was ever decided about {}", record.key)));
        }
        let (place, at) = self.place(graph, &record, date, desk.now.at)?;
        if reach == Reach::Cut {
            return Ok(self.cut(&record, place, at, common.json));
        }
        let mut walk = Walk::new(graph, record.key.clone());
        let mut first_difference = None;
        let mut texts = std::collections::BTreeMap::new();
        for entry in &record.entries[..place] {
            let difference = walk.take(entry);
            first_difference = first_difference.or(difference);
            for effect in &entry.effects {
                if let Effect::Alert(alert) = effect
                    && alert.turn == Turn::Raised
                {
                    texts.insert(alert.key.clone(), alert.clone());
                }
            }
        }
        let view = view::view(graph, &walk.partition, Now::caught_up(at));
        let entry = place.checked_sub(1).and_then(|index| record.entries.get(index));
        let why = match &self.why {
            Some(name) => view::why(&view, &desk.node(name, date)?),
            None => None,
        };
        let alerts: Vec<_> = view.alerts.iter().filter_map(|key| texts.get(key)).collect();
        if common.json {
            say!(
                "{}",
                json!({ "at": at, "event": place, "events": record.entries.len(), "entry": entry, "view": view, "why": why,
                    "alerts": alerts, "differs": first_difference, "broken": record.broken })
            );
            return Ok(Verdict::Holds);
        }
        let paint = Paint::stdout();
        let (verdict, tally) = tally(&view);
        let name = paint.strong(&format!("{} {date}", graph.pipeline));
        say!("{name} ({}) as it stood at {}: {verdict}; {tally}", zone(graph), shown(at));
        self.tell_entry(&record, place, paint);
        self.tell_difference(&record, first_difference.as_ref(), graph, paint);
        for alert in alerts {
            let severity = alert.severity.as_str();
            say!("{} {}  {}", paint.bad(severity), harmless(&alert.text), paint.dim(alert.key.as_str()));
        }
        rows(graph, &view, self.all);
        if let Some(why) = &why {
            print_why(why, 0, paint);
        }
        if let Some(wake_at) = view.wake_at {
            say!("{}", paint.dim(&format!("looked again at {}, or when something came in", shown(wake_at))));
        }
        Ok(Verdict::Holds)
    }

    /// After how many entries, and at which instant.
    fn place(&self, graph: &Graph, record: &Record, date: Date, now: Timestamp) -> Result<(usize, Timestamp), Fault> {
        let count = record.entries.len();
        let decided = |place: usize| place.checked_sub(1).and_then(|index| record.entries.get(index));
        let by_clock = self.at.as_deref().map(|text| instant(text, date, graph)).transpose()?;
        let place = match (by_clock, self.event) {
            (Some(at), _) if at > now => {
                return Err(Fault::usage(anyhow::anyhow!(
                    "{} is still to come; `tipoff forecast` says what is to be expected",
                    shown(at)
                )));
            }
            (Some(at), _) => record.entries.partition_point(|entry| entry.now.at <= at),
            (None, Some(event)) if event > count => {
                return Err(Fault::usage(anyhow::anyhow!("{} has {count} entries, not {event}", record.key)));
            }
            (None, Some(event)) => event,
            (None, None) => count,
        };
        let stepped = match (self.next, self.previous) {
            (true, _) if place == count => {
                return Err(Fault::usage(anyhow::anyhow!("entry {count} of {} is the last", record.key)));
            }
            (true, _) => place + 1,
            (_, true) if place == 0 => {
                return Err(Fault::usage(anyhow::anyhow!("nothing was recorded before that of {}", record.key)));
            }
            (_, true) => place - 1,
            (false, false) => place,
        };
        let first = record.entries.first().map(|entry| entry.now.at);
        let of_entry = decided(stepped).map(|entry| entry.now.at).or(first).unwrap_or(now);
        Ok((stepped, by_clock.filter(|_| stepped == place).unwrap_or(of_entry)))
    }

    /// Says what entry it is, and how to go on from there.
    fn tell_entry(&self, record: &Record, place: usize, paint: Paint) {
        let count = record.entries.len();
        match place.checked_sub(1).and_then(|index| record.entries.get(index)) {
            Some(entry) => {
                say!("after entry {place} of {count}, decided at {}:", shown(entry.now.at));
                let told = lines(entry, None);
                for line in &told {
                    say!("  {line}");
                }
                if told.is_empty() {
                    say!("  {}", paint.dim("heartbeats, and what time alone had brought"));
                }
            }
            None => say!("before the first of {count} entries"),
        }
        let command = |event: usize| format!("tipoff show {} --event {event}", record.key.date);
        let back = place.checked_sub(1).map(|event| format!("back: {}", command(event)));
        let on = (place < count).then(|| format!("on: {}", command(place + 1)));
        let ways: Vec<String> = back.into_iter().chain(on).collect();
        say!("{}", paint.dim(&ways.join("   ")));
        if let Some(broken) = &record.broken {
            say!("{}", paint.bad(&harmless(&format!("the record ends early: {broken}"))));
        }
    }

    fn tell_difference(&self, record: &Record, found: Option<&Difference>, graph: &Graph, paint: Paint) {
        let Some(difference) = found else { return };
        let others = record.revisions().into_iter().filter(|revision| *revision != graph.revision).count();
        let why = if others > 0 {
            format!("it was decided by another revision ({}) than the one read here", difference.revision)
        } else {
            "this tipoff decides otherwise".to_owned()
        };
        say!(
            "{}",
            paint.bad(&format!(
                "from entry {} on this is what would have been, not what was: {why}; `tipoff replay {} --verify` lists it",
                difference.entry, record.key.date
            ))
        );
    }

    /// What can be said where the beginning of the record is not kept any more: what its entries were, not how it stood.
    fn cut(&self, record: &Record, place: usize, at: Timestamp, json: bool) -> Verdict {
        let paint = Paint::stdout();
        let first = record.entries.first();
        let entry = place.checked_sub(1).and_then(|index| record.entries.get(index));
        let known_from = first.map(|entry| entry.now.at);
        if json {
            say!(
                "{}",
                json!({ "at": at, "event": place, "events": record.entries.len(), "entry": entry, "view": null,
                    "known_from": known_from, "broken": record.broken })
            );
            return Verdict::Fails;
        }
        let said = match first {
            Some(first) => format!(
                "the record of {} begins at {} with version {}; entries are kept for 30 days, and how the date stood cannot be \
                 told without the earlier ones",
                record.key,
                shown(first.now.at),
                first.version
            ),
            None => format!("no entry of {} is kept any more: how it stood cannot be told", record.key),
        };
        say!("{}", paint.bad(&said));
        if first.is_some() {
            self.tell_entry(record, place, paint);
        }
        say!("{}", paint.dim(&format!("how it stands now: tipoff status {}", record.key.date)));
        Verdict::Fails
    }
}

/// An instant as people write it: with an offset, or by the clocks of the pipeline's zone, on `date` where it names none.
pub(super) fn instant(text: &str, date: Date, graph: &Graph) -> Result<Timestamp, Fault> {
    let civil = || {
        let on_that_date = text.parse::<Time>().ok().map(|time| date.to_datetime(time));
        let found = text.parse::<DateTime>().ok().filter(|_| text.len() > 10).or(on_that_date)?;
        graph.zone.to_timestamp(found).ok()
    };
    text.parse::<Timestamp>().ok().or_else(civil).ok_or_else(|| {
        let text = harmless(text);
        Fault::usage(anyhow::anyhow!("`{text}` is no time: 14:55, 2026-01-23T14:55 or 2026-01-23T19:55:00Z"))
    })
}
