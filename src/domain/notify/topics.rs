//! What alerts there are: every topic, with what it says. A route or a mute that names another one would never take.

/// What the alerts of a topic are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// A date of a pipeline.
    Date,
    /// The service, or a pipeline as a whole. A route that names a pipeline takes it only where the alert names a date of it.
    Service,
}

use Whose::{Date, Service};

/// Every topic of ours, with what it says. The classes of failures that pipeline.yaml names are topics as well.
pub const TOPICS: [(&str, Whose, &str); 51] = [
    ("always-empty", Date, "a source has had no data for several game days in a row"),
    ("backfill-proposed", Service, "something of a past date is missing, and a plan to make it waits for somebody"),
    ("backlog", Service, "a subscription has more waiting than is taken"),
    ("blocked", Date, "a node would run, but an input falls short"),
    ("cap", Service, "as many dispatches as may leave in an hour have left; the rest waits"),
    ("check", Date, "the data behind a node are not as they should be, by a check of its own"),
    ("contradicted", Date, "a node reported success, and the warehouse has less"),
    ("coverage", Date, "games are short of an output that people wait for"),
    ("coverage-check", Date, "games of a date have too few predictions"),
    ("day-off", Date, "processors failed on a date without games"),
    ("dead", Date, "a run has fallen silent and counts as dead"),
    ("dead-letter", Service, "messages that a broker gave up on wait for somebody, or cannot be kept"),
    ("double-run", Date, "a node has more than one execution alive at once"),
    ("exhausted", Date, "a node is not tried any more: it waits for new inputs, or for `tipoff retry`"),
    ("failed", Date, "a node's last run failed, and said so"),
    ("fault", Service, "something in tipoff itself panicked: it goes on, and what it was at is tried again or kept"),
    ("forecast", Date, "a deadline ahead will be missed as things stand"),
    ("history-gap", Service, "a part of the history could not be written"),
    ("impossible", Date, "a gate cannot open any more"),
    ("invariant", Date, "a decision broke a rule that always holds, and was not kept"),
    ("late", Date, "what was due of a phase is not there"),
    ("low-output", Date, "a node reported success with fewer rows than the games make"),
    ("missed", Date, "a node was not done before its pass over the date ended"),
    ("not-started", Date, "a dispatch was followed by no sign of life"),
    ("other-date", Date, "a file gives another date than the one it counts for"),
    ("outdated", Date, "a node is not made again although its inputs are newer"),
    ("overdue", Date, "a run is alive, and has been for too long"),
    ("parked", Service, "a message could not be understood, and is kept"),
    ("phantom-success", Date, "a node reported success, and nothing is there"),
    ("phase-silent", Date, "nobody of a phase shows a sign of life"),
    ("quorum", Date, "a gate goes on without all of its members"),
    ("reconciled", Date, "a node's output is there without a completion message"),
    ("revision-mix", Date, "programs of a phase are at work in more than one revision"),
    ("schedule-empty", Date, "the schedule lists no game any more where some were known"),
    ("schedule-stale", Date, "games have not ended by the schedule, and must have"),
    ("schedule-suspect", Date, "the schedule cannot be right about when games begin"),
    ("schedule-unread", Date, "the schedule of a date could not be read"),
    ("self", Service, "tipoff's own store, clock or a channel does not work"),
    ("short", Date, "parts of a source's output are not there, or too old"),
    ("silent", Service, "nothing is decided, or reported, or beats, although there is work"),
    ("source-down", Service, "a plan of backfill has stopped asking one source, which keeps failing"),
    ("stale", Date, "a run has been silent for a while"),
    ("stalled", Date, "a run beats and does not come on"),
    ("stopped", Service, "a pipeline is held, and something waits for the end of that"),
    ("store", Service, "something in the store cannot be read, and was set aside"),
    ("storm", Date, "runs of a node begin over and over"),
    ("sweep-suspect", Service, "a look at past dates found more missing than can be"),
    ("target", Service, "a subscription or a service does not take what is sent"),
    ("undeliverable", Date, "a dispatch will never be taken as it is"),
    ("unknown-name", Date, "a message gives a name that no alias list has"),
    ("wrong-topic", Date, "a message came over a topic of another pipeline"),
];

/// Whether there is such a topic, given the classes of failures.
pub fn is_topic<'a>(name: &str, classes: impl IntoIterator<Item = &'a str>) -> bool {
    TOPICS.iter().any(|(topic, ..)| *topic == name) || classes.into_iter().any(|class| class == name)
}
