//! What must, and must not, come of a scenario; and when it does not, the nearest miss.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::file::{Scenario, span};
use super::seen::{Seen, Sent, What};
use super::wanted::{
    Crowd, Expectation, Never, WantedAlert, WantedDispatch, WantedSettlement, WantedState, WantedTelling,
};
use super::world::{Regime, SHUFFLE_WITHIN};
use crate::domain::effect::{Severity, Turn};
use crate::domain::notify::{Item, Notice};
use crate::domain::time::after;
use crate::engine::Settings;
use crate::engine::dead_letter;
use crate::engine::intake::Settlement;

/// An expectation that was missed.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Miss {
    /// Where it stands in the file.
    pub line: u64,
    /// What was expected and what came nearest.
    pub text: String,
}

/// Every expectation that was missed.
pub fn misses(scenario: &Scenario, seen: &Seen, regime: Regime) -> Vec<Miss> {
    let judge = Judge { scenario, seen, regime, sent: seen.sent() };
    let mut misses: Vec<Miss> = scenario
        .expect
        .iter()
        .enumerate()
        .filter(|(_, expectation)| regime == Regime::Plain || !expectation.value.plainly)
        .filter_map(|(index, expectation)| {
            let text = judge.expectation(index, &expectation.value)?;
            Some(Miss { line: expectation.referenced.line(), text })
        })
        .collect();
    if scenario.only {
        misses.extend(judge.unexpected());
    }
    misses
}

struct Judge<'a> {
    scenario: &'a Scenario,
    seen: &'a Seen,
    regime: Regime,
    sent: Vec<(Timestamp, &'a Sent)>,
}

impl Judge<'_> {
    /// What is wrong, if anything.
    fn expectation(&self, index: usize, wanted: &Expectation) -> Option<String> {
        if let Some(dispatch) = &wanted.dispatch {
            return self.dispatch(dispatch);
        }
        if let Some(alert) = &wanted.alert {
            return self.alert(alert);
        }
        if let Some(told) = &wanted.told {
            return self.told(told);
        }
        if let Some(settled) = &wanted.settled {
            return self.settled(settled);
        }
        if let Some(state) = &wanted.state {
            let found = self.seen.checks.get(&index).map_or("never looked at", String::as_str);
            let at = state.at.as_deref().unwrap_or("the end");
            return (found != state.is && !self.stood(state))
                .then(|| format!("{}@{} is {found} at {at}, not {}", state.node, state.date, state.is));
        }
        let looked_at = || self.seen.checks.get(&index).map_or("never looked at", String::as_str);
        if let Some(gaps) = &wanted.gaps {
            let (found, are) = (looked_at(), gaps.are.join(", "));
            return (found != are).then(|| format!("{} is missing of [{found}], not of [{are}]", gaps.node));
        }
        if let Some(plan) = &wanted.plan {
            let is = format!("{}: {} done, {} failed, {} left", plan.is, plan.done, plan.failed, plan.left);
            // What is left may be followed by why it rests.
            let found = looked_at();
            let holds = found == is || found.strip_prefix(&is).is_some_and(|why| why.starts_with(" ("));
            return (!holds).then(|| format!("the plan {} is {}, not {is}", plan.id, looked_at()));
        }
        if let Some(parked) = &wanted.parked {
            let found = self.seen.parked.iter().filter(|found| found.slug == parked.slug).count();
            let all: Vec<&str> = self.seen.parked.iter().map(|found| found.slug.as_str()).collect();
            return (found != parked.count)
                .then(|| format!("{found} inputs parked as {}, not {}; parked: {all:?}", parked.slug, parked.count));
        }
        if let Some(letters) = &wanted.letters {
            let standing =
                |found: &dead_letter::Seen| letters.standing.as_ref().is_none_or(|it| found.standing.as_str() == it);
            let are = |found: &&dead_letter::Seen| found.stage.as_str() == letters.are && standing(found);
            let found = self.seen.letters.iter().filter(are).count();
            let all = self.seen.letters.iter();
            let all: Vec<String> = all
                .map(|it| {
                    format!("{} {} {}: {}", it.letter.id, it.stage.as_str(), it.standing.as_str(), it.letter.reason)
                })
                .collect();
            return (found != letters.count)
                .then(|| format!("{found} letters are {}, not {}; letters: {all:?}", letters.are, letters.count));
        }
        if let Some(refused) = &wanted.refused {
            let found = self.seen.refused.get(&refused.target).copied().unwrap_or(0);
            let kills = usize::try_from(self.seen.kills).unwrap_or(usize::MAX);
            let most = refused.at_most.saturating_add(kills.saturating_mul(10));
            let least = refused.at_least.saturating_sub(kills);
            return (!(least..=most).contains(&found))
                .then(|| format!("{} refused {found} calls, not {least} to {most}", refused.target));
        }
        if let Some(most) = wanted.alerts_at_most {
            return self.alerts_at_most(most);
        }
        if let Some(never) = &wanted.never {
            return self.never(never);
        }
        Some(
            "an expectation has one of dispatch, alert, told, settled, state, gaps, plan, parked, letters, \
             refused, alerts_at_most, never"
                .to_owned(),
        )
    }

    /// How much later than in the plain run something may come.
    fn slack(&self) -> SignedDuration {
        let settings = Settings::default();
        match self.regime {
            Regime::Plain => SignedDuration::ZERO,
            Regime::Twice => SignedDuration::from_secs(1),
            Regime::RestartAnywhere(_) => {
                let each = settings.settle_in.saturating_add(settings.sweep_every);
                each.saturating_mul(i32::try_from(self.seen.kills.min(10)).unwrap_or(10))
            }
            Regime::Shuffle(_) => SHUFFLE_WITHIN,
        }
    }

    /// Whether a node stood so a little later than in the plain run: a kill leaves it some steps behind.
    fn stood(&self, wanted: &WantedState) -> bool {
        let Some(from) = wanted.at.as_ref().and_then(|at| self.scenario.instant(at).ok()) else { return false };
        let until = after(from, self.slack());
        self.seen.entries.iter().any(|entry| match &entry.what {
            What::Moved { partition, node, to, .. } => {
                let same = partition.pipeline == wanted.pipeline && partition.date == wanted.date;
                same && *node == wanted.node && *to == wanted.is && entry.at > from && entry.at <= until
            }
            _ => false,
        })
    }

    fn window(&self, pair: &(String, String)) -> (Timestamp, Timestamp) {
        let instant = |text: &str| self.scenario.instant(text).unwrap_or(Timestamp::MAX);
        (instant(&pair.0), after(instant(&pair.1), self.slack()))
    }

    fn matching(&self, wanted: &WantedDispatch) -> Vec<(Timestamp, &Sent)> {
        let messages = wanted.target.is_some() || wanted.body.is_some();
        let mut known = std::collections::BTreeSet::new();
        self.sent
            .iter()
            .filter(|(_, sent)| matches(wanted, sent))
            .filter(|(_, sent)| messages || known.insert(&sent.dispatch))
            .map(|(at, sent)| (*at, *sent))
            .collect()
    }

    fn dispatch(&self, wanted: &WantedDispatch) -> Option<String> {
        let found = self.matching(wanted);
        let count = wanted.count.unwrap_or(1);
        let outside: Vec<_> = match &wanted.between {
            Some(pair) => {
                let (from, until) = self.window(pair);
                found.iter().filter(|(at, _)| *at < from || *at > until).map(|(at, sent)| show(*at, sent)).collect()
            }
            None => Vec::new(),
        };
        if found.len() == count && outside.is_empty() {
            return None;
        }
        if !outside.is_empty() {
            return Some(format!("{} came at another time: {}", words(wanted), outside.join("; ")));
        }
        let near: Vec<String> = self
            .sent
            .iter()
            .filter(|(_, sent)| wanted.node.as_ref().is_none_or(|node| sent.manifest("node") == Some(node.as_str())))
            .map(|(at, sent)| format!("{}{}", show(*at, sent), difference(wanted, sent)))
            .collect();
        let near = if near.is_empty() {
            let all: Vec<String> = self.sent.iter().map(|(at, sent)| show(*at, sent)).collect();
            format!(
                "nothing like it was sent; sent: {}",
                if all.is_empty() { "nothing".into() } else { all.join("; ") }
            )
        } else {
            format!("nearest: {}", near.join("; "))
        };
        Some(format!("{} came {} times, not {count}; {near}", words(wanted), found.len()))
    }

    /// How often anything was told that was not on already, or that has become worse.
    fn alerts_at_most(&self, most: usize) -> Option<String> {
        let mut on: std::collections::BTreeMap<&str, Severity> = std::collections::BTreeMap::new();
        let mut told = Vec::new();
        for entry in &self.seen.entries {
            let What::Alert { key, severity, turn, .. } = &entry.what else { continue };
            match turn {
                Turn::Raised if on.get(key.as_str()).is_none_or(|held| held < severity) => {
                    on.insert(key.as_str(), *severity);
                    told.push(format!("{} {key}", entry.at));
                }
                Turn::Resolved => {
                    on.remove(key.as_str());
                }
                Turn::Raised => {}
            }
        }
        (told.len() > most).then(|| format!("{} alerts, not at most {most}: {}", told.len(), told.join("; ")))
    }

    fn alert(&self, wanted: &WantedAlert) -> Option<String> {
        let severity = match wanted.severity.as_deref() {
            Some("info") => Some(Severity::Info),
            Some("warning") => Some(Severity::Warning),
            Some("critical") => Some(Severity::Critical),
            None => None,
            Some(other) => return Some(format!("`{other}` is no severity: info, warning, critical")),
        };
        // Telling again what is on already is no news; telling that it has become worse is.
        let mut on: Option<Severity> = None;
        let mut changes = Vec::new();
        for entry in &self.seen.entries {
            let What::Alert { key, severity: found, turn, .. } = &entry.what else { continue };
            if key.as_str() != wanted.key {
                continue;
            }
            match turn {
                Turn::Raised if on.is_none_or(|held| held < *found) => {
                    on = Some(*found);
                    if severity.is_none_or(|severity| severity == *found) {
                        changes.push((Turn::Raised, entry.at));
                    }
                }
                Turn::Resolved if on.take().is_some() => changes.push((Turn::Resolved, entry.at)),
                Turn::Raised | Turn::Resolved => {}
            }
        }
        let turns = |turn: Turn| -> Vec<Timestamp> {
            changes.iter().filter(|(turned, _)| *turned == turn).map(|(_, at)| *at).collect()
        };
        let raised = turns(Turn::Raised);
        let resolved = turns(Turn::Resolved);
        let count = wanted.count.unwrap_or(1);
        if raised.len() != count {
            let keys: std::collections::BTreeSet<String> = self
                .seen
                .entries
                .iter()
                .filter_map(|entry| match &entry.what {
                    What::Alert { key, severity, turn: Turn::Raised, .. } => Some(format!("{key} ({severity:?})")),
                    _ => None,
                })
                .collect();
            return Some(format!(
                "alert {} was raised {} times, not {count}; raised: {keys:?}",
                wanted.key,
                raised.len()
            ));
        }
        let texts = |at: Turn| {
            self.seen.entries.iter().filter_map(move |entry| match &entry.what {
                What::Alert { key, text, turn, .. } if key.as_str() == wanted.key && *turn == at => Some(text.as_str()),
                _ => None,
            })
        };
        for (turn, words) in [(Turn::Raised, &wanted.says), (Turn::Resolved, &wanted.says_at_end)] {
            let says_all = texts(turn).any(|text| words.iter().all(|word| text.contains(word.as_str())));
            if !words.is_empty() && !says_all {
                let found = texts(turn).collect::<Vec<_>>();
                return Some(format!("alert {} never says all of {words:?}; it says {found:?}", wanted.key));
            }
        }
        let excess = wanted.says_not.iter().find(|word| texts(Turn::Raised).any(|text| text.contains(word.as_str())));
        if let Some(word) = excess {
            return Some(format!("alert {} says {word:?}", wanted.key));
        }
        let misplaced = |found: &[Timestamp], pair: &(String, String)| {
            let (from, until) = self.window(pair);
            !found.iter().any(|at| *at >= from && *at <= until)
        };
        if wanted.raised.as_ref().is_some_and(|pair| misplaced(&raised, pair)) {
            return Some(format!("alert {} was raised at {raised:?}", wanted.key));
        }
        if wanted.resolved.as_ref().is_some_and(|pair| misplaced(&resolved, pair)) {
            return Some(format!("alert {} was resolved at {resolved:?}", wanted.key));
        }
        None
    }

    /// Notices like `wanted`, each once, with an instant and a word.
    fn telling(&self, wanted: &WantedTelling) -> Vec<(Timestamp, String)> {
        let is_wanted = |item: &&Item| {
            let key = item.key.as_str();
            wanted.key.as_deref().is_none_or(|wanted| wanted == key)
                && wanted.key_prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix))
                && wanted.news.is_none_or(|news| news == item.news)
                && wanted.severity.is_none_or(|severity| severity == item.severity)
                && wanted.downstream.is_none_or(|count| count == item.downstream)
        };
        let told = self.seen.told();
        let of_kind = told.iter().filter(|(_, _, notice)| wanted.kind.is_none_or(|kind| kind == notice.kind));
        of_kind
            .filter(|(_, _, notice)| {
                notice.items.iter().filter(is_wanted).any(|item| {
                    let done = item.done.as_deref().unwrap_or_default();
                    let (look, act) = (item.look.join("\n"), item.act.join("\n"));
                    let said = [&notice.title, &item.text, done, &look, &act].join("\n");
                    wanted.says.iter().all(|word| said.contains(word.as_str()))
                })
            })
            .map(|(at, channel, notice)| (*at, format!("{at} {channel}: {}", notice.title)))
            .collect()
    }

    fn told(&self, wanted: &WantedTelling) -> Option<String> {
        let found = self.telling(wanted);
        let count = wanted.count.unwrap_or(1);
        let words: Vec<&str> = found.iter().map(|(_, words)| words.as_str()).collect();
        if found.len() < count || found.len() > wanted.most.unwrap_or(count) {
            let all: Vec<String> = self.seen.told().iter().map(|(at, _, notice)| shown(*at, notice)).collect();
            let all = all.join("; ");
            return Some(format!("told {} times, not {count}: {words:?}; in all: {all}", found.len()));
        }
        let (from, until) = self.window(wanted.between.as_ref()?);
        let outside = found.iter().any(|(at, _)| *at < from || *at > until);
        outside.then(|| format!("told at another time: {words:?}"))
    }

    fn settled(&self, wanted: &WantedSettlement) -> Option<String> {
        let WantedSettlement { message, r#as: wanted, handed_back } = wanted;
        let Some(found) = self.seen.settlements.get(message) else {
            return Some(format!("message {message} was never settled"));
        };
        let last = found.last();
        let backs = found.iter().filter(|settlement| matches!(settlement, Settlement::Nack { .. })).count();
        let copies = if self.regime == Regime::Twice { 2 } else { 1 };
        // A process that starts anew does not know yet that nothing can be taken in.
        let knows = !matches!(self.regime, Regime::RestartAnywhere(_));
        if let Some(most) = handed_back.filter(|most| knows && backs > most * copies) {
            return Some(format!("message {message} was handed back {backs} times, which is more than {most}"));
        }
        let right = match (wanted.as_str(), last) {
            ("ack", Some(Settlement::Ack)) => true,
            ("nack", _) => backs > 0,
            (wanted, Some(Settlement::Park { slug, .. })) => wanted.strip_prefix("park:") == Some(slug),
            _ => false,
        };
        (!right).then(|| {
            // A message that is handed back for an hour is handed back hundreds of times.
            let mut told: Vec<(&Settlement, usize)> = Vec::new();
            for settlement in found {
                match told.last_mut() {
                    Some((last, times)) if *last == settlement => *times += 1,
                    _ => told.push((settlement, 1)),
                }
            }
            let told: Vec<String> =
                told.iter().map(|(settlement, times)| format!("{times} × {settlement:?}")).collect();
            format!("message {message} was settled {}, not {wanted}", told.join(", "))
        })
    }

    fn never(&self, never: &Never) -> Option<String> {
        // What a regime shifts, it makes later: what was due before the window may come into it, but nothing that is due
        // after it.
        let start = self.scenario.start;
        let within = |at: Timestamp| match &never.between {
            Some((from, until)) => {
                let instant = |text: &str| self.scenario.instant(text).unwrap_or(Timestamp::MAX);
                let from = instant(from);
                let from = if from <= start { from } else { after(from, self.slack()) };
                at >= from && at <= instant(until)
            }
            None => true,
        };
        if let Some(wanted) = &never.dispatch {
            let mut found: Vec<(Timestamp, &Sent)> =
                self.matching(wanted).into_iter().filter(|(at, _)| within(*at)).collect();
            if let Some(crowd) = &never.more_than {
                found = self.crowded(found, crowd);
            }
            let found: Vec<String> = found.into_iter().map(|(at, sent)| show(at, sent)).collect();
            return (!found.is_empty())
                .then(|| format!("{} must not be seen, but: {}", words(wanted), found.join("; ")));
        }
        if let Some(wanted) = &never.told {
            let found = self.telling(wanted).into_iter().filter(|(at, _)| within(*at));
            let found: Vec<String> = found.map(|(_, words)| words).collect();
            return (!found.is_empty()).then(|| format!("must not be told, but: {}", found.join("; ")));
        }
        let prefix = never.alert.as_deref().unwrap_or_default();
        let found: Vec<String> = self
            .seen
            .entries
            .iter()
            .filter_map(|entry| match &entry.what {
                What::Alert { key, turn: Turn::Raised, text, .. } if key.as_str().starts_with(prefix) => {
                    within(entry.at).then(|| format!("{} {key}: {text}", entry.at))
                }
                _ => None,
            })
            .collect();
        (!found.is_empty()).then(|| format!("no alert {prefix}… must be seen, but: {}", found.join("; ")))
    }

    /// The first of `found` that are more than `crowd` allows. A process that starts anew does not know how many the one
    /// before it sent in the same second, so nothing is said of those that are killed.
    fn crowded<'s>(&self, found: Vec<(Timestamp, &'s Sent)>, crowd: &Crowd) -> Vec<(Timestamp, &'s Sent)> {
        if matches!(self.regime, Regime::RestartAnywhere(_)) {
            return Vec::new();
        }
        let span = span(&crowd.within).unwrap_or(SignedDuration::MAX);
        let too_close = |window: &&[(Timestamp, &Sent)]| match window {
            [(first, _), .., (last, _)] => *last < after(*first, span),
            _ => false,
        };
        found.windows(crowd.count + 1).find(too_close).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// Dispatches that no expectation speaks of.
    fn unexpected(&self) -> Vec<Miss> {
        let wanted: Vec<&WantedDispatch> =
            self.scenario.expect.iter().filter_map(|wanted| wanted.value.dispatch.as_ref()).collect();
        self.sent
            .iter()
            .filter(|(_, sent)| !wanted.iter().any(|wanted| same_work(wanted, sent)))
            .map(|(at, sent)| Miss { line: 1, text: format!("nobody expects {}", show(*at, sent)) })
            .collect()
    }
}

fn same_work(wanted: &WantedDispatch, sent: &Sent) -> bool {
    matches(&WantedDispatch { target: None, body: None, ..wanted.clone() }, sent)
}

fn matches(wanted: &WantedDispatch, sent: &Sent) -> bool {
    difference(wanted, sent).is_empty()
}

/// In what a message differs from what is wanted; empty where it does not.
fn difference(wanted: &WantedDispatch, sent: &Sent) -> String {
    let mut words = Vec::new();
    let mut compare = |name: &str, wanted: Option<String>, found: Option<String>| {
        if let Some(wanted) = wanted
            && found.as_deref() != Some(wanted.as_str())
        {
            words.push(format!("{name} {} instead of {wanted}", found.unwrap_or_default()));
        }
    };
    let parts = sent.dispatch.parts();
    let (key, node, attempt) = match &parts {
        Some((key, node, attempt)) => (Some(key), Some(node), Some(attempt)),
        None => (None, None, None),
    };
    compare("pipeline", wanted.pipeline.as_ref().map(ToString::to_string), key.map(|key| key.pipeline.to_string()));
    compare("node", wanted.node.as_ref().map(ToString::to_string), node.map(ToString::to_string));
    compare("date", wanted.date.map(|date| date.to_string()), key.map(|key| key.date.to_string()));
    compare("run", wanted.run.map(|run| run.to_string()), attempt.map(|attempt| attempt.run.to_string()));
    compare("attempt", wanted.attempt.map(|n| n.to_string()), attempt.map(|attempt| attempt.attempt.to_string()));
    compare("cause", wanted.cause.clone(), sent.manifest("cause").map(str::to_owned));
    compare("target", wanted.target.clone(), Some(sent.target.clone()));
    if let Some(body) = &wanted.body
        && let Some(miss) = lacking(body, &sent.body, "")
    {
        words.push(miss);
    }
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}

/// The first member of `wanted` that `found` lacks.
fn lacking(wanted: &Value, found: &Value, path: &str) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(key, wanted)| {
            let path = format!("{path}.{key}");
            match found.get(key) {
                Some(found) => lacking(wanted, found, &path),
                None => Some(format!("body{path} is missing")),
            }
        }),
        (wanted, found) => (wanted != found).then(|| format!("body{path} {found} instead of {wanted}")),
    }
}

fn shown(at: Timestamp, notice: &Notice) -> String {
    let items = notice.items.iter().map(|item| format!("{} {}", item.news.as_str(), item.key));
    format!("{at} {} [{}]", notice.title, items.collect::<Vec<_>>().join(", "))
}

fn show(at: Timestamp, sent: &Sent) -> String {
    format!("{at} {} → {}", sent.message, sent.target)
}

fn words(wanted: &WantedDispatch) -> String {
    let mut words = vec!["a dispatch".to_owned()];
    let mut say = |prefix: &str, text: Option<String>| words.extend(text.map(|text| format!("{prefix}{text}")));
    say("of ", wanted.node.as_ref().map(ToString::to_string));
    say("for ", wanted.date.map(|date| date.to_string()));
    say("run ", wanted.run.map(|run| run.to_string()));
    say("attempt ", wanted.attempt.map(|attempt| attempt.to_string()));
    say("because ", wanted.cause.clone());
    say("over ", wanted.target.clone());
    say("with ", wanted.body.as_ref().map(ToString::to_string));
    say("between ", wanted.between.as_ref().map(|(from, until)| format!("{from} and {until}")));
    words.join(" ")
}
