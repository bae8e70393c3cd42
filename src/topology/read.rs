//! `topics.yaml`, read into a topology with every mistake noted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{
    Backoff, Carries, DeadLetter, Delivery, PushBody, Standing, Subscription, SubscriptionName, Topic, TopicName,
    Topology, duration, show,
};
use crate::diagnostic::{Found, Place, Problems, Report, Table, not_one_of, suggestion};

/// The only layout of the file so far; another number is another reader.
const VERSION: i64 = 1;

/// Pub/Sub's bounds on how long a subscriber may hold a message unacknowledged.
const ACK_DEADLINE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(600);
/// Pub/Sub's bounds on how long a topic or a subscription keeps a message.
const RETENTION: RangeInclusive<Duration> = Duration::from_mins(10)..=Duration::from_hours(31 * 24);
/// Pub/Sub's bounds on delivery attempts before a message is dead-lettered.
const ATTEMPTS_MAX: RangeInclusive<u32> = 5..=100;
/// Pub/Sub's bound on both ends of a retry policy.
const BACKOFF: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
/// Pub/Sub's bounds on the length of a topic's or subscription's name.
const NAME_LENGTH: RangeInclusive<usize> = 3..=255;

/// The topology that a text declares, or every mistake in it.
pub fn check(text: &str, file: &str) -> Result<Topology, Problems> {
    let mut report = Report::new(file);
    let top = Table::read(file, text, &mut report)?;
    let mut reading = Reading { report, links: Vec::new(), owners: BTreeMap::new() };
    let topology = reading.topology(top);
    reading.check_dead_letters(&topology);
    reading.report.finish(topology)
}

/// The numbers of a subscription, whose usual values stand once at the head of the file.
#[derive(Debug, Clone, Copy)]
struct Terms {
    ack_deadline: Duration,
    attempts_max: u32,
    backoff: Backoff,
    retention: Duration,
}

impl Terms {
    /// What stands in after a mistake was noted, so that the reading goes on; no topology with these is handed out.
    const AFTER_A_MISTAKE: Self = Self {
        ack_deadline: *ACK_DEADLINE.start(),
        attempts_max: *ATTEMPTS_MAX.start(),
        backoff: Backoff { min: *BACKOFF.start(), max: *BACKOFF.end() },
        retention: *RETENTION.start(),
    };
}

/// The file's `defaults`.
#[derive(Debug, Clone, Copy)]
struct Defaults {
    topic_retention: Duration,
    push: Terms,
    pull: Terms,
}

impl Defaults {
    /// See [`Terms::AFTER_A_MISTAKE`].
    const AFTER_A_MISTAKE: Self =
        Self { topic_retention: *RETENTION.start(), push: Terms::AFTER_A_MISTAKE, pull: Terms::AFTER_A_MISTAKE };
}

/// A subscription's `dead_letter`, kept with its place for the checks that need every topic known.
#[derive(Debug)]
struct Link {
    from: TopicName,
    to: TopicName,
    place: Place,
}

/// One reading of the file: what was noted, and what can be judged only at the end.
#[derive(Debug)]
struct Reading {
    report: Report,
    links: Vec<Link>,
    /// The topic of each subscription name seen.
    owners: BTreeMap<SubscriptionName, TopicName>,
}

impl Reading {
    fn topology(&mut self, mut top: Table) -> Topology {
        top.require("version", &mut self.report);
        if let Some(version) = top.integer("version", &mut self.report)
            && version.value != VERSION
        {
            self.report.at(&version.place, format!("expected {VERSION}, found {}", version.value));
        }
        top.require("defaults", &mut self.report);
        let defaults = top.table("defaults", &mut self.report);
        let defaults = defaults.map_or(Defaults::AFTER_A_MISTAKE, |table| self.defaults(table));
        top.require("topics", &mut self.report);
        let mut topics = BTreeMap::new();
        if let Some(table) = top.table("topics", &mut self.report) {
            for Found { value: (name, table), place } in table.named(&mut self.report) {
                self.check_name(&name, &place);
                let name = TopicName(name);
                let topic = self.topic(&name, table, &defaults);
                topics.insert(name, topic);
            }
        }
        top.finish(&mut self.report);
        Topology { topics }
    }

    fn defaults(&mut self, mut table: Table) -> Defaults {
        let mut defaults = Defaults::AFTER_A_MISTAKE;
        for key in ["topic", "push", "pull"] {
            table.require(key, &mut self.report);
        }
        if let Some(mut topic) = table.table("topic", &mut self.report) {
            topic.require("retention", &mut self.report);
            defaults.topic_retention = self.within(&mut topic, "retention", &RETENTION, defaults.topic_retention);
            topic.finish(&mut self.report);
        }
        if let Some(push) = table.table("push", &mut self.report) {
            defaults.push = self.terms_of_all(push);
        }
        if let Some(pull) = table.table("pull", &mut self.report) {
            defaults.pull = self.terms_of_all(pull);
        }
        table.finish(&mut self.report);
        defaults
    }

    /// The terms of every subscription of one kind: all of them have to be written.
    fn terms_of_all(&mut self, mut table: Table) -> Terms {
        for key in ["ack_deadline", "attempts_max", "backoff", "retention"] {
            table.require(key, &mut self.report);
        }
        let terms = self.terms(&mut table, Terms::AFTER_A_MISTAKE);
        table.finish(&mut self.report);
        terms
    }

    fn terms(&mut self, table: &mut Table, otherwise: Terms) -> Terms {
        Terms {
            ack_deadline: self.within(table, "ack_deadline", &ACK_DEADLINE, otherwise.ack_deadline),
            attempts_max: self.attempts_max(table, otherwise.attempts_max),
            backoff: self.backoff(table, otherwise.backoff),
            retention: self.within(table, "retention", &RETENTION, otherwise.retention),
        }
    }

    fn topic(&mut self, name: &TopicName, mut table: Table, defaults: &Defaults) -> Topic {
        let place = table.place().clone();
        let purpose = self.words(&mut table, "purpose");
        let pipeline = self.words(&mut table, "pipeline");
        let carries = table.required_text("carries", &mut self.report).map(|word| self.carries(&word));
        let phase = table.text("phase", &mut self.report).map(|found| found.value);
        let publishers = table.texts("publishers", &mut self.report).into_iter().map(|found| found.value).collect();
        let retention = self.within(&mut table, "retention", &RETENTION, defaults.topic_retention);
        let schema = table.text("schema", &mut self.report).map(|found| found.value);
        let collection = table.text("collection", &mut self.report);
        let retired = table.text("retired", &mut self.report);
        let subscriptions = table.table("subscriptions", &mut self.report);
        table.finish(&mut self.report);

        // What a misspelled kind would demand is unknown, so nothing more is demanded.
        let carries = carries.flatten().unwrap_or(Carries::Other);
        let subscriptions = subscriptions.map_or_else(BTreeMap::new, |table| {
            if retired.is_some() && !table.is_empty() {
                self.report.at(table.place(), "belongs to a retired topic; remove the subscriptions or `retired`");
            }
            self.subscriptions(name, carries, table, defaults)
        });
        if retired.is_none()
            && subscriptions.is_empty()
            && let Some(loss) = carries.unread()
        {
            self.report.at(&place, loss);
        }
        if let Some(why) = &retired
            && why.value.trim().is_empty()
        {
            self.report.at(&why.place, "says nothing; write why the topic is no longer in use");
        }
        if let Some(collection) = &collection
            && carries != Carries::Heartbeat
        {
            self.report.at(&collection.place, "only heartbeats are read from a Firestore collection as well");
        }
        let collection = collection.map(|found| found.value);
        let standing = retired.map_or(Standing::Live, |why| Standing::Retired { why: why.value });
        let line = place.line;
        Topic {
            purpose,
            pipeline,
            carries,
            phase,
            publishers,
            retention,
            schema,
            collection,
            standing,
            line,
            subscriptions,
        }
    }

    fn subscriptions(
        &mut self,
        topic: &TopicName,
        carries: Carries,
        table: Table,
        defaults: &Defaults,
    ) -> BTreeMap<SubscriptionName, Subscription> {
        let mut subscriptions = BTreeMap::new();
        let mut pushed_to = BTreeMap::new();
        for Found { value: (name, table), place } in table.named(&mut self.report) {
            self.check_name(&name, &place);
            let name = SubscriptionName(name);
            if let Some(owner) = self.owners.insert(name.clone(), topic.clone()) {
                self.report
                    .at(&place, format!("`{owner}` has a subscription of this name; names are unique in a project"));
            }
            let subscription = self.subscription(topic, carries, table, defaults);
            if let Delivery::Push { path, .. } = &subscription.delivery {
                let target = (subscription.consumer.clone(), path.clone());
                if let Some(earlier) = pushed_to.insert(target, name.clone()) {
                    let Subscription { consumer, .. } = &subscription;
                    let message =
                        format!("pushes to {path} of {consumer} as `{earlier}` does; the work would be done twice");
                    self.report.at(&place, message);
                }
            }
            subscriptions.insert(name, subscription);
        }
        subscriptions
    }

    fn subscription(
        &mut self,
        topic: &TopicName,
        carries: Carries,
        mut table: Table,
        defaults: &Defaults,
    ) -> Subscription {
        let place = table.place().clone();
        let consumer = self.words(&mut table, "consumer");
        // A pull stands in after a mistake, because nothing more is asked of a pull.
        let delivery = self.delivery(&mut table).unwrap_or(Delivery::Pull);
        let otherwise = match delivery {
            Delivery::Push { .. } => defaults.push,
            Delivery::Pull => defaults.pull,
        };
        let limited = table.has("attempts_max");
        let terms = self.terms(&mut table, otherwise);
        let dead_letter = table.text("dead_letter", &mut self.report);
        table.finish(&mut self.report);

        match &dead_letter {
            Some(to) => {
                self.links.push(Link { from: topic.clone(), to: TopicName(to.value.clone()), place: to.place.clone() })
            }
            None if limited => {
                let place = Place { line: place.line, key: format!("{}.attempts_max", place.key) };
                self.report.at(&place, "has no effect without `dead_letter`");
            }
            None if carries != Carries::DeadLetter => {
                let place = Place { line: place.line, key: format!("{}.dead_letter", place.key) };
                let message = "missing; without it a message that nobody can process is delivered until it expires";
                self.report.at(&place, message);
            }
            None => {}
        }
        let dead_letter =
            dead_letter.map(|to| DeadLetter { topic: TopicName(to.value), attempts_max: terms.attempts_max });
        let Terms { ack_deadline, backoff, retention, attempts_max: _ } = terms;
        Subscription { consumer, delivery, ack_deadline, retention, backoff, dead_letter, line: place.line }
    }

    fn delivery(&mut self, table: &mut Table) -> Option<Delivery> {
        let word = table.required_text("delivery", &mut self.report);
        let endpoint = table.text("endpoint", &mut self.report);
        let wrapped = table.boolean("wrapped", &mut self.report);
        let word = word?;
        match word.value.as_str() {
            "push" => {
                let Some(path) = endpoint else {
                    self.report.at(&word.place, "a push needs an `endpoint`");
                    return None;
                };
                if !path.value.starts_with('/') {
                    self.report.at(&path.place, format!("`{}` is not a path; it has to begin with /", path.value));
                }
                let body = match wrapped {
                    Some(Found { value: false, .. }) => PushBody::Payload,
                    Some(Found { value: true, .. }) | None => PushBody::Envelope,
                };
                Some(Delivery::Push { path: path.value, body })
            }
            "pull" => {
                let for_pushes = [endpoint.map(|found| found.place), wrapped.map(|found| found.place)];
                for place in for_pushes.into_iter().flatten() {
                    self.report.at(&place, "has no effect on a pull");
                }
                Some(Delivery::Pull)
            }
            other => {
                self.report.at(&word.place, not_one_of(other, &["push", "pull"]));
                None
            }
        }
    }

    fn carries(&mut self, word: &Found<String>) -> Option<Carries> {
        let found = Carries::ALL.into_iter().find(|carries| carries.as_str() == word.value);
        if found.is_none() {
            self.report.at(&word.place, not_one_of(&word.value, &Carries::ALL.map(Carries::as_str)));
        }
        found
    }

    /// A text that has to be there and to say something.
    fn words(&mut self, table: &mut Table, key: &'static str) -> String {
        let Some(found) = table.required_text(key, &mut self.report) else { return String::new() };
        if found.value.trim().is_empty() {
            self.report.at(&found.place, "is empty");
        }
        found.value
    }

    fn within(
        &mut self,
        table: &mut Table,
        key: &'static str,
        bounds: &RangeInclusive<Duration>,
        otherwise: Duration,
    ) -> Duration {
        let Some(found) = table.text(key, &mut self.report) else { return otherwise };
        match duration(&found.value) {
            Ok(value) if bounds.contains(&value) => return value,
            Ok(_) => {
                let (least, most) = (show(*bounds.start()), show(*bounds.end()));
                self.report.at(&found.place, format!("{} is outside {least} to {most}", found.value));
            }
            Err(message) => self.report.at(&found.place, message),
        }
        otherwise
    }

    fn attempts_max(&mut self, table: &mut Table, otherwise: u32) -> u32 {
        let Some(found) = table.integer("attempts_max", &mut self.report) else { return otherwise };
        match u32::try_from(found.value) {
            Ok(value) if ATTEMPTS_MAX.contains(&value) => value,
            Ok(_) | Err(_) => {
                let (least, most) = (ATTEMPTS_MAX.start(), ATTEMPTS_MAX.end());
                self.report.at(&found.place, format!("{} is outside {least} to {most}", found.value));
                otherwise
            }
        }
    }

    fn backoff(&mut self, table: &mut Table, otherwise: Backoff) -> Backoff {
        let Some(mut pauses) = table.table("backoff", &mut self.report) else { return otherwise };
        pauses.require("min", &mut self.report);
        pauses.require("max", &mut self.report);
        let min = self.within(&mut pauses, "min", &BACKOFF, otherwise.min);
        let max = self.within(&mut pauses, "max", &BACKOFF, otherwise.max);
        if min > max {
            self.report.at(pauses.place(), format!("min {} is longer than max {}", show(min), show(max)));
        }
        pauses.finish(&mut self.report);
        Backoff { min, max }
    }

    /// Pub/Sub's rule for the names of topics and subscriptions.
    fn check_name(&mut self, name: &str, place: &Place) {
        let length = name.chars().count();
        if !NAME_LENGTH.contains(&length) {
            let (least, most) = (NAME_LENGTH.start(), NAME_LENGTH.end());
            self.report.at(place, format!("a name has {least} to {most} characters, this one {length}"));
        }
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            self.report.at(place, "a name begins with a letter");
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_.~+%".contains(*c);
        if let Some(bad) = name.chars().find(|c| !allowed(c)) {
            self.report.at(place, format!("a name is of letters, digits and - _ . ~ + %; this one has `{bad}`"));
        }
        if name.starts_with("goog") {
            self.report.at(place, "names that begin with `goog` are reserved");
        }
    }

    /// What can be judged of dead-letter topics only when every topic is known.
    fn check_dead_letters(&mut self, topology: &Topology) {
        for link in &self.links {
            let (to, place) = (link.to.as_str(), &link.place);
            match topology.topic(to) {
                None => {
                    let known = topology.topics.iter().filter(|(_, topic)| topic.carries == Carries::DeadLetter);
                    let near = suggestion(to, known.map(|(name, _)| name.as_str()));
                    self.report.at(place, format!("no topic `{to}` is declared{near}"));
                }
                Some(topic) if topic.carries != Carries::DeadLetter => {
                    let kind = topic.carries.as_str();
                    self.report
                        .at(place, format!("`{to}` carries {kind}; a letter needs a topic that carries dead-letter"));
                }
                Some(Topic { standing: Standing::Retired { .. }, .. }) => {
                    self.report.at(place, format!("`{to}` is retired"));
                }
                Some(_) => {}
            }
            if self.leads_to(&link.to, &link.from) {
                let message = format!(
                    "a letter sent to `{to}` comes back to `{}`, and would go round until it expires",
                    link.from
                );
                self.report.at(place, message);
            }
        }
    }

    /// Whether letters that arrive in one topic can end up in another.
    fn leads_to(&self, from: &TopicName, to: &TopicName) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(topic) = open.pop() {
            if topic == to {
                return true;
            }
            if seen.insert(topic) {
                open.extend(self.links.iter().filter(|link| link.from == *topic).map(|link| &link.to));
            }
        }
        false
    }
}
