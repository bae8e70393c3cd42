//! What does `pipeline.yaml` say? Keys are taken one by one and values parsed; what names refer to is for `link`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use crate::diagnostic::{Any, Found, Place, Problems, Report, Table, not_one_of};
use crate::domain::backfill;
use crate::domain::calendar::{Anchor, Span};
use crate::domain::coverage::PerMille;
use crate::domain::effect::Severity;
use crate::domain::failure::{ClockTime, Ends, FailureClass};
use crate::domain::graph::{
    Cycle, DayTime, Expects, Heartbeats, Limits, Liveness, Offset, Rebuild, Refresh, Stall, Storm, Strength, Task,
    Unanswered, Unit,
};
use crate::domain::id::PipelineId;
use crate::topology::{self, Topology};

use super::draft::{
    Draft, DraftBackfill, DraftCalendar, DraftCheck, DraftGate, DraftKind, DraftMessage, DraftNeed, DraftNode,
    DraftTier, Size,
};
use super::monitors;
use super::probe;
use super::{Pipeline, Service, link};

/// The only layout of the file so far; another number is another reader.
const VERSION: i64 = 1;
/// A run that is flagged before it has missed this many heartbeats is flagged for a late one.
const HEARTBEATS_MISSED_MIN: u32 = 3;

/// What holds where a node says nothing itself.
struct Defaults {
    every: Duration,
    liveness: Liveness,
    task: Task,
    coverage_min: PerMille,
}

/// Reads the whole file.
pub(super) fn file(
    (file, text): (&str, &str),
    revision: u64,
    topology: Option<&Topology>,
) -> Result<BTreeMap<PipelineId, Pipeline>, Problems> {
    let mut report = Report::new(file);
    let mut top = Table::read(file, text, &mut report)?;
    top.require("version", &mut report);
    if let Some(version) = top.integer("version", &mut report)
        && version.value != VERSION
    {
        report.at(&version.place, format!("expected {VERSION}, found {}", version.value));
    }
    top.require("pipelines", &mut report);
    let mut pipelines = BTreeMap::new();
    if let Some(table) = top.table("pipelines", &mut report) {
        for Found { value: (name, table), place } in table.named(&mut report) {
            check_name(&name, &place, &mut report);
            let draft = pipeline(&name, table, &mut report);
            let id = draft.id.clone();
            pipelines.insert(id, link::pipeline(draft, revision, topology, &mut report));
        }
    }
    top.finish(&mut report);
    report.finish(pipelines)
}

fn pipeline(name: &str, mut table: Table, report: &mut Report) -> Draft {
    let zone = zone(&mut table, report);
    let datasets = table.texts("datasets", report).into_iter().map(|found| found.value).collect();
    let untracked =
        table.texts("untracked", report).into_iter().map(|found| found.value.to_ascii_lowercase()).collect();
    table.require("limits", report);
    let limits = table.table("limits", report).map(|table| limits(table, report));
    let (limits, (dispatches_per_second, dispatches_per_hour)) = limits.unwrap_or((AFTER_A_MISTAKE.limits(), (1, 1)));
    let failures = table.table("failures", report).map_or_else(Vec::new, |table| failures(table, report));
    let calendar = table.table("calendar", report).map(|table| calendar(table, report)).unwrap_or_default();
    let backfill = table.table("backfill", report).map(|table| backfill(table, report)).unwrap_or_default();
    let mut services = BTreeMap::new();
    if let Some(table) = table.table("services", report) {
        for Found { value: (name, mut table), .. } in table.named(report) {
            let url = table.text("url", report).map(|found| found.value);
            let dispatches_per_second = count(&mut table, "dispatches_per_second", report);
            table.finish(report);
            services.insert(name, Service { url, dispatches_per_second });
        }
    }
    table.require("defaults", report);
    let defaults = table.table("defaults", report).map_or(AFTER_A_MISTAKE, |table| defaults(table, report));
    table.require("cycles", report);
    let cycles = table.tables("cycles", report).into_iter().filter_map(|table| cycle(table, report)).collect();
    let mut probes = BTreeMap::new();
    if let Some(table) = table.table("probes", report) {
        for Found { value: (name, table), place } in table.named(report) {
            check_name(&name, &place, report);
            probes.insert(name, probe::probe(table, report));
        }
    }
    let mut reports = BTreeMap::new();
    if let Some(table) = table.table("reports", report) {
        let named = table.named(report).into_iter();
        reports.extend(named.filter_map(|found| probe::reported(&found.value.0, &found.place, found.value.1, report)));
    }
    let monitors = table.table("monitors", report).map(|table| monitors::monitors(table, report));
    let (monitors, monitored_phases) = monitors.unwrap_or_default();
    table.require("nodes", report);
    let mut nodes = BTreeMap::new();
    if let Some(table) = table.table("nodes", report) {
        for Found { value: (name, table), place } in table.named(report) {
            check_name(&name, &place, report);
            nodes.insert(name, node(table, place, &defaults, report));
        }
    }
    table.finish(report);
    let zone = zone.unwrap_or(TimeZone::UTC);
    let coverage_min = defaults.coverage_min;
    let id = PipelineId::from(name);
    Draft {
        id,
        zone,
        limits,
        dispatches_per_second,
        dispatches_per_hour,
        failures,
        calendar,
        backfill,
        services,
        datasets,
        untracked,
        cycles,
        coverage_min,
        probes,
        reports,
        monitors,
        monitored_phases,
        nodes,
    }
}

fn zone(table: &mut Table, report: &mut Report) -> Option<TimeZone> {
    let found = table.required_text("zone", report)?;
    let zone = TimeZone::get(&found.value);
    zone.map_err(|_| {
        report.at(&found.place, format!("`{}` is no time zone; write one as America/New_York", found.value));
    })
    .ok()
}

fn failures(table: Table, report: &mut Report) -> Vec<FailureClass> {
    let mut classes = Vec::new();
    for Found { value: (name, mut table), place } in table.named(report) {
        check_name(&name, &place, report);
        table.require("match", report);
        let words = table.texts("match", report);
        if words.is_empty() {
            report.at(table.place(), "has no words in match, so no error would be one of these");
        }
        for word in words.iter().filter(|word| word.value.trim().is_empty()) {
            report.at(&word.place, "is empty, and every error has it");
        }
        let until = table.table("until", report).and_then(|mut until| {
            let at = until.required_text("at", report).and_then(|at| clock_time(&at, report));
            let zone = zone(&mut until, report);
            until.finish(report);
            Some((at?, zone?))
        });
        let spread = duration(&mut table, "spread", report);
        let last = table.boolean("until_new_inputs", report).is_some_and(|found| found.value);
        let ends = match (until, last) {
            (Some((at, zone)), false) => {
                let spread = spread.map_or(SignedDuration::ZERO, |found| found.value);
                Some(Ends::At(ClockTime { at, zone, spread }))
            }
            (None, true) => {
                if let Some(spread) = spread {
                    report.at(&spread.place, "has no effect without `until`");
                }
                Some(Ends::WithNewInputs)
            }
            (Some(_), true) | (None, false) => {
                report.at(&place, "write either until, with at and zone, or until_new_inputs: true");
                None
            }
        };
        table.finish(report);
        let words = words.into_iter().map(|word| word.value.to_lowercase()).collect();
        if let Some(ends) = ends {
            classes.push(FailureClass { name: name.into(), words, ends });
        }
    }
    classes
}

/// What stands in after a mistake was noted, so that the reading goes on; no pipeline with these is handed out.
const AFTER_A_MISTAKE: Defaults = Defaults {
    every: Duration::from_secs(60),
    liveness: Liveness {
        heartbeats: Heartbeats::Sent,
        stale_after: SignedDuration::from_mins(5),
        dead_after: SignedDuration::from_mins(15),
        start_within: SignedDuration::from_mins(30),
        duration_max: SignedDuration::from_hours(1),
        stall: None,
        storm: None,
    },
    task: Task {
        attempts_max: 1,
        not_started_max: 1,
        dispatches_max: 1,
        backoff: SignedDuration::from_mins(5),
        backoff_max: SignedDuration::from_mins(30),
        rebuild: Rebuild::Never,
        rebuild_every: SignedDuration::ZERO,
    },
    coverage_min: PerMille::FULL,
};

impl Defaults {
    const fn limits(&self) -> Limits {
        Limits { ahead_max: 1, behind_max: 1, observe_every: SignedDuration::from_mins(15) }
    }
}

/// Names become parts of dispatch ids and of keys in stores, where `/` and blanks mean something.
fn check_name(name: &str, place: &Place, report: &mut Report) {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(allowed) || name.contains("..") {
        report
            .at(place, "a name begins with a lower-case letter and goes on with lower-case letters, digits and _ - .");
    }
}

fn limits(mut table: Table, report: &mut Report) -> (Limits, (u32, u32)) {
    for key in ["ahead_max", "behind_max", "observe_every", "dispatches_per_second", "dispatches_per_hour"] {
        table.require(key, report);
    }
    let fallback = AFTER_A_MISTAKE.limits();
    let limits = Limits {
        ahead_max: days(&mut table, "ahead_max", report).unwrap_or(fallback.ahead_max),
        behind_max: days(&mut table, "behind_max", report).unwrap_or(fallback.behind_max),
        observe_every: duration(&mut table, "observe_every", report)
            .map_or(fallback.observe_every, |found| found.value),
    };
    let dispatches_per_second = count(&mut table, "dispatches_per_second", report).unwrap_or(1);
    let dispatches_per_hour = count(&mut table, "dispatches_per_hour", report).unwrap_or(1);
    table.finish(report);
    (limits, (dispatches_per_second, dispatches_per_hour))
}

/// A whole number from one on.
pub(super) fn count(table: &mut Table, key: &'static str, report: &mut Report) -> Option<u32> {
    let found = table.integer(key, report)?;
    let count = u32::try_from(found.value).ok().filter(|count| *count > 0);
    if count.is_none() {
        report.at(&found.place, format!("{} is outside 1 to {}", found.value, u32::MAX));
    }
    count
}

pub(super) fn days(table: &mut Table, key: &'static str, report: &mut Report) -> Option<i32> {
    let found = duration(table, key, report)?;
    let hours = found.value.as_hours();
    if hours % 24 != 0 || found.value != SignedDuration::from_hours(hours) {
        report.at(&found.place, "expected whole days, as in 2d");
        return None;
    }
    i32::try_from(hours / 24).ok()
}

fn defaults(mut table: Table, report: &mut Report) -> Defaults {
    for key in ["heartbeat", "start_within", "duration_max", "retry", "rebuild_after", "coverage_min"] {
        table.require(key, report);
    }
    let mut defaults = AFTER_A_MISTAKE;
    if let Some(mut heartbeat) = table.table("heartbeat", report) {
        for key in ["every", "stale_after", "dead_after"] {
            heartbeat.require(key, report);
        }
        if let Some(every) = duration(&mut heartbeat, "every", report) {
            defaults.every = every.value.unsigned_abs();
        }
        silence(&mut heartbeat, &mut defaults.liveness, defaults.every, report);
        heartbeat.finish(report);
    }
    if let Some(mut retry) = table.table("retry", report) {
        for key in ["attempts_max", "not_started_max", "dispatches_max", "backoff", "backoff_max"] {
            retry.require(key, report);
        }
        self::retry(&mut retry, &mut defaults.task, report);
        retry.finish(report);
    }
    bounds(&mut table, &mut defaults.liveness, report);
    defaults.liveness.storm = storm(&mut table, report);
    rebuild(&mut table, &mut defaults.task, report);
    if let Some(share) = share(&mut table, "coverage_min", report) {
        defaults.coverage_min = share.value;
    }
    table.finish(report);
    defaults
}

/// Takes the two silences of a heartbeat and compares them with each other and with the beat.
fn silence(table: &mut Table, liveness: &mut Liveness, every: Duration, report: &mut Report) {
    let place = table.place().clone();
    let stale = duration(table, "stale_after", report);
    let dead = duration(table, "dead_after", report);
    let at = |found: &Option<Found<SignedDuration>>| found.as_ref().map_or(place.clone(), |found| found.place.clone());
    liveness.stale_after = stale.as_ref().map_or(liveness.stale_after, |found| found.value);
    liveness.dead_after = dead.as_ref().map_or(liveness.dead_after, |found| found.value);
    let least = every * HEARTBEATS_MISSED_MIN;
    if liveness.stale_after.unsigned_abs() < least {
        let shown = topology::show(liveness.stale_after.unsigned_abs());
        let least = topology::show(least);
        report.at(
            &at(&stale),
            format!(
                "{shown} is shorter than {HEARTBEATS_MISSED_MIN} heartbeats ({least}); a late one would be flagged"
            ),
        );
    }
    if liveness.dead_after <= liveness.stale_after {
        let dead_after = topology::show(liveness.dead_after.unsigned_abs());
        let stale_after = topology::show(liveness.stale_after.unsigned_abs());
        report.at(&at(&dead), format!("{dead_after} is not longer than stale_after ({stale_after})"));
    }
}

fn retry(table: &mut Table, task: &mut Task, report: &mut Report) {
    let counts = [
        ("attempts_max", &mut task.attempts_max),
        ("not_started_max", &mut task.not_started_max),
        ("dispatches_max", &mut task.dispatches_max),
    ];
    for (key, held) in counts {
        *held = count(table, key, report).unwrap_or(*held);
    }
    if let Some(found) = duration(table, "backoff", report) {
        task.backoff = found.value;
    }
    if let Some(found) = duration(table, "backoff_max", report) {
        task.backoff_max = found.value;
    }
    if task.backoff_max < task.backoff {
        report.at(table.place(), "backoff is longer than backoff_max");
    }
}

fn bounds(table: &mut Table, liveness: &mut Liveness, report: &mut Report) {
    if let Some(found) = duration(table, "start_within", report) {
        liveness.start_within = found.value;
    }
    if let Some(found) = duration(table, "duration_max", report) {
        liveness.duration_max = found.value;
    }
}

fn rebuild(table: &mut Table, task: &mut Task, report: &mut Report) {
    if let Some(found) = duration(table, "rebuild_every", report) {
        task.rebuild_every = found.value;
    }
    let Some(found) = table.text("rebuild_after", report) else { return };
    if found.value == "never" {
        task.rebuild = Rebuild::Never;
    } else if let Some(after) = parse_duration(&found, report) {
        task.rebuild = Rebuild::After(after);
    }
}

fn cycle(mut table: Table, report: &mut Report) -> Option<Cycle> {
    let place = table.place().clone();
    let name = table.required_text("name", report);
    for key in ["from", "until"] {
        table.require(key, report);
    }
    let from = table.table("from", report).and_then(|table| day_time(table, report));
    let until = table.table("until", report).and_then(|table| day_time(table, report));
    table.finish(report);
    let name = name?;
    check_name(&name.value, &name.place, report);
    let (from, until) = (from?, until?);
    if (from.days, from.time) >= (until.days, until.time) {
        report.at(&place, "ends before it begins");
    }
    Some(Cycle { id: name.value.as_str().into(), from, until })
}

fn day_time(mut table: Table, report: &mut Report) -> Option<DayTime> {
    table.require("day", report);
    let day = table.integer("day", report);
    let at = table.required_text("at", report);
    table.finish(report);
    let (day, at) = (day?, at?);
    let Ok(days) = i32::try_from(day.value) else {
        report.at(&day.place, format!("{} days are too many", day.value));
        return None;
    };
    Some(DayTime { days, time: clock_time(&at, report)? })
}

fn clock_time(found: &Found<String>, report: &mut Report) -> Option<Time> {
    let time = found.value.parse();
    time.map_err(|_| {
        report
            .at(&found.place, format!("`{}` is no clock time; write hours and minutes, as in \"17:00\"", found.value));
    })
    .ok()
}

fn node(mut table: Table, place: Place, defaults: &Defaults, report: &mut Report) -> DraftNode {
    let kind = table.required_text("kind", report);
    let same_as = table.text("same_as", report);
    let phase = table.text("phase", report).map(|found| found.value);
    if phase.is_none() && same_as.is_none() {
        report.at(&Place { line: place.line, key: format!("{}.phase", place.key) }, "missing");
    }
    let cycle = table.required_text("cycle", report);
    let aliases = table.texts("aliases", report);
    let files = table.texts("files", report);
    let output = table.text("output", report);
    let ask = table.any("probe", report).and_then(|found| probe::ask(found, report));
    let mut liveness = defaults.liveness;
    if let Some(found) = table.text("heartbeats", report) {
        match found.value.as_str() {
            "sent" => liveness.heartbeats = Heartbeats::Sent,
            "none" => liveness.heartbeats = Heartbeats::None,
            word => report.at(&found.place, not_one_of(word, &["sent", "none"])),
        }
    }
    if let Some(mut heartbeat) = table.table("heartbeat", report) {
        silence(&mut heartbeat, &mut liveness, defaults.every, report);
        heartbeat.finish(report);
    }
    bounds(&mut table, &mut liveness, report);
    liveness.storm = storm(&mut table, report).or(liveness.storm);
    let mut close = Vec::new();
    if kind.as_ref().is_some_and(|kind| kind.value == "task")
        && let Some(table) = table.table("stall", report)
    {
        (liveness.stall, close) = stall(table, report);
    }
    let (expects, has_unit) = expects(&mut table, report);
    let is_task = kind.as_ref().is_some_and(|kind| kind.value == "task");
    let checks = if is_task { checks(&mut table, report) } else { Vec::new() };
    let is_gate = kind.as_ref().is_some_and(|kind| kind.value == "gate");
    let backfill = if is_gate { DraftBackfill::default() } else { backfill_of(&mut table, report) };
    let mut rebuilt = defaults.task.clone();
    let mut needs = Vec::new();
    let kind = kind.and_then(|kind| match kind.value.as_str() {
        "source" => {
            needs = self::needs(&mut table, report);
            let (task, messages) = dispatched(&mut table, defaults, report);
            let is_asked = !messages.is_empty() || !backfill.messages.is_empty();
            Some(DraftKind::Source(is_asked.then_some((task, messages))))
        }
        "task" => {
            needs = self::needs(&mut table, report);
            rebuild(&mut table, &mut rebuilt, report);
            let (task, messages) = dispatched(&mut table, &Defaults { task: rebuilt, ..*defaults }, report);
            Some(DraftKind::Task { task, messages })
        }
        "gate" => {
            let (gate, members) = gate(&mut table, report);
            needs = members;
            Some(DraftKind::Gate(gate))
        }
        word => {
            report.at(&kind.place, not_one_of(word, &["source", "task", "gate"]));
            None
        }
    });
    // Which keys belong to a misspelled kind is anybody's guess, so none of them is called unknown.
    if kind.is_some() {
        table.finish(report);
    }
    DraftNode {
        place,
        kind,
        phase,
        cycle,
        same_as,
        aliases,
        files,
        output,
        ask,
        liveness,
        close,
        backfill,
        needs,
        expects,
        has_unit,
        checks,
    }
}

/// How many runs may begin within an hour.
fn storm(table: &mut Table, report: &mut Report) -> Option<Storm> {
    let mut table = table.table("storm", report)?;
    for key in ["warn_above", "critical_above"] {
        table.require(key, report);
    }
    let warn_above = count(&mut table, "warn_above", report);
    let critical_above = count(&mut table, "critical_above", report);
    let (warn_above, critical_above) = (warn_above?, critical_above?);
    if critical_above <= warn_above {
        report.at(table.place(), "critical_above is not more than warn_above");
    }
    table.finish(report);
    Some(Storm { warn_above, critical_above })
}

/// How the node is asked for a past date, where not as usual.
fn backfill_of(table: &mut Table, report: &mut Report) -> DraftBackfill {
    let Some(mut table) = table.table("backfill", report) else { return DraftBackfill::default() };
    let refuse = table.text("refuse", report);
    let messages: Vec<_> = table.tables("messages", report).into_iter().map(|table| message(table, report)).collect();
    if refuse.is_some() != messages.is_empty() {
        report.at(table.place(), "write either refuse, with the reason, or messages");
    }
    table.finish(report);
    DraftBackfill { messages, refuse }
}

/// How much is asked for past dates at a time, and when.
fn backfill(mut table: Table, report: &mut Report) -> backfill::Limits {
    let usual = backfill::Limits::default();
    let mut clock = |key: &'static str, usual: Time, report: &mut Report| {
        table.text(key, report).and_then(|found| clock_time(&found, report)).unwrap_or(usual)
    };
    let (from, until) = (clock("from", usual.from, report), clock("until", usual.until, report));
    let span = |found: Option<Found<SignedDuration>>, usual| found.map_or(usual, |found| found.value);
    let mut suspect = table.table("suspect", report);
    let (mut suspect_share, mut suspect_above) = (usual.suspect_share, usual.suspect_above);
    if let Some(mut table) = suspect.take() {
        for key in ["share", "above"] {
            table.require(key, report);
        }
        suspect_share = share(&mut table, "share", report).map_or(suspect_share, |found| found.value);
        suspect_above = count(&mut table, "above", report).unwrap_or(suspect_above);
        table.finish(report);
    }
    let limits = backfill::Limits {
        at_once: count(&mut table, "at_once", report).unwrap_or(usual.at_once),
        cooldown: span(duration(&mut table, "cooldown", report), usual.cooldown),
        attempts_max: count(&mut table, "attempts_max", report).unwrap_or(usual.attempts_max),
        from,
        until,
        automatic_within: days(&mut table, "automatic_within", report).unwrap_or(usual.automatic_within),
        every: span(duration(&mut table, "every", report), usual.every),
        suspect_share,
        suspect_above,
        down_after: count(&mut table, "down_after", report).unwrap_or(usual.down_after),
    };
    table.finish(report);
    limits
}

/// When a run that does not come on is closed, and what is said for that.
fn stall(mut table: Table, report: &mut Report) -> (Option<Stall>, Vec<DraftMessage>) {
    for key in ["close_after", "over_after", "messages"] {
        table.require(key, report);
    }
    let close_after = duration(&mut table, "close_after", report);
    let over_after = duration(&mut table, "over_after", report);
    let messages = table.tables("messages", report).into_iter().map(|table| message(table, report)).collect();
    table.finish(report);
    let (Some(close), Some(over)) = (close_after, over_after) else { return (None, messages) };
    if over.value <= close.value {
        report.at(&over.place, "is not longer than close_after, so nobody would have the time to close it");
    }
    (Some(Stall { close_after: close.value, over_after: over.value }), messages)
}

fn needs(table: &mut Table, report: &mut Report) -> Vec<DraftNeed> {
    let Some(table) = table.table("needs", report) else { return Vec::new() };
    let named = table.named(report);
    named.into_iter().map(|found| need(found, report)).collect()
}

fn need(Found { value: (node, mut table), place }: Found<(String, Table)>, report: &mut Report) -> DraftNeed {
    table.require("strength", report);
    let strengths = [("hard", Strength::Hard), ("soft", Strength::Soft), ("optional", Strength::Optional)];
    let dates = [("same", Offset::Same), ("previous_game_day", Offset::PreviousGameDay)];
    let refreshes = [("always", Refresh::Always), ("if_missed", Refresh::IfMissed), ("never", Refresh::Never)];
    let need = DraftNeed {
        node,
        strength: word(&mut table, "strength", &strengths, report).unwrap_or(Strength::Optional),
        offset: word(&mut table, "date", &dates, report).unwrap_or(Offset::Same),
        coverage_min: share(&mut table, "coverage_min", report),
        grace: duration(&mut table, "grace", report),
        debounce: duration(&mut table, "debounce", report).map_or(SignedDuration::ZERO, |found| found.value),
        refresh: word(&mut table, "refresh", &refreshes, report).unwrap_or(Refresh::Always),
        place,
    };
    table.finish(report);
    need
}

/// One of a few words, if the key is there and holds one of them.
fn word<T: Copy>(table: &mut Table, key: &'static str, words: &[(&str, T)], report: &mut Report) -> Option<T> {
    let found = table.text(key, report)?;
    let meant = words.iter().find(|(word, _)| *word == found.value).map(|(_, meaning)| *meaning);
    if meant.is_none() {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        report.at(&found.place, not_one_of(&found.value, &known));
    }
    meant
}

/// What is said to whom, and what it may cost.
fn dispatched(table: &mut Table, defaults: &Defaults, report: &mut Report) -> (Task, Vec<DraftMessage>) {
    let mut task = defaults.task.clone();
    if let Some(mut table) = table.table("retry", report) {
        retry(&mut table, &mut task, report);
        table.finish(report);
    }
    let messages = table.tables("messages", report).into_iter().map(|table| message(table, report)).collect();
    (task, messages)
}

/// What is expected of a node's output, and whether it says what its coverage counts.
fn expects(table: &mut Table, report: &mut Report) -> (Expects, bool) {
    let units = [("game", Unit::Game), ("team", Unit::Team)];
    let unit = word(table, "unit", &units, report);
    let (due, late) = table.table("due", report).map(|table| self::due(table, report)).unwrap_or_default();
    let span = |found: Option<Found<SignedDuration>>| found.map(|found| found.value);
    let expects = Expects {
        unit: unit.unwrap_or_default(),
        records_min: count(table, "records_min", report).unwrap_or(0),
        due,
        late,
        before_tip: table.boolean("before_tip", report).is_some_and(|found| found.value),
        alert_before_tip: span(duration(table, "alert_before_tip", report)),
        verify: span(duration(table, "verify", report)).unwrap_or(SignedDuration::ZERO),
        start_before_tip: span(duration(table, "start_before_tip", report)),
        empty_days_max: count(table, "empty_days_max", report),
        checks: Vec::new(),
    };
    (expects, unit.is_some())
}

fn due(mut table: Table, report: &mut Report) -> (Vec<Anchor>, Option<Severity>) {
    let mut anchors = Vec::new();
    anchors.extend(signed(&mut table, "first_tip", report).map(Anchor::FirstTip));
    anchors.extend(signed(&mut table, "last_tip", report).map(Anchor::LastTip));
    let clock = table.table("clock", report).and_then(|table| day_time(table, report));
    anchors.extend(clock.map(Anchor::Clock));
    if anchors.is_empty() {
        report.at(table.place(), "write first_tip, last_tip or clock; of several the earliest counts");
    }
    let severities = [("warning", Severity::Warning), ("critical", Severity::Critical)];
    let severity = word(&mut table, "severity", &severities, report);
    table.finish(report);
    (anchors, severity)
}

/// A span with a sign: `-10h` is before.
fn signed(table: &mut Table, key: &'static str, report: &mut Report) -> Option<SignedDuration> {
    let mut found = table.text(key, report)?;
    let before = found.value.strip_prefix('-').map(str::to_owned);
    let is_before = before.is_some();
    found.value = before.unwrap_or(found.value);
    let span = parse_duration(&found, report)?;
    Some(if is_before { -span } else { span })
}

fn checks(table: &mut Table, report: &mut Report) -> Vec<DraftCheck> {
    let Some(table) = table.table("checks", report) else { return Vec::new() };
    let mut checks = Vec::new();
    for Found { value: (id, mut table), place } in table.named(report) {
        check_name(&id, &place, report);
        for key in ["probe", "block_below", "unanswered"] {
            table.require(key, report);
        }
        let ask = table.any("probe", report).and_then(|found| probe::ask(found, report));
        let block = share(&mut table, "block_below", report).map_or(PerMille::NONE, |found| found.value);
        let warn = share(&mut table, "warn_below", report);
        if let Some(warn) = warn.as_ref().filter(|warn| warn.value < block) {
            report.at(&warn.place, "is less than block_below: what stops the dispatch is told of as well");
        }
        let warn_below = warn.map_or(block, |found| found.value);
        let answers = [("block", Unanswered::Block), ("proceed", Unanswered::Proceed)];
        let unanswered = word(&mut table, "unanswered", &answers, report).unwrap_or(Unanswered::Block);
        table.finish(report);
        checks.push(DraftCheck { id, ask, warn_below, block_below: block, unanswered });
    }
    checks
}

fn calendar(mut table: Table, report: &mut Report) -> DraftCalendar {
    let seasons = table.tables("seasons", report).into_iter().filter_map(|table| days_of(table, report)).collect();
    let breaks = table.tables("breaks", report).into_iter().filter_map(|table| days_of(table, report)).collect();
    let tip_earliest = table.text("tip_earliest", report).and_then(|found| clock_time(&found, report));
    table.require("game_max", report);
    let game_max = duration(&mut table, "game_max", report).map_or(SignedDuration::ZERO, |found| found.value);
    let schedule = table.text("schedule", report);
    let mut codes = Vec::new();
    if let Some(found) = table.any("codes", report) {
        let Any::Table(entries) = found.value else {
            report.at(&found.place, "expected a mapping of codes");
            return DraftCalendar::default();
        };
        for (code, Found { value, place }) in entries {
            match value {
                Any::Text(team) => codes.push((code.to_ascii_uppercase(), team)),
                _ => report.at(&place, "expected a team's code"),
            }
        }
    }
    for key in ["look_ahead", "read_every"] {
        table.require(key, report);
    }
    let look_ahead = days(&mut table, "look_ahead", report).unwrap_or(1);
    let read_every =
        duration(&mut table, "read_every", report).map_or(SignedDuration::from_mins(10), |found| found.value);
    table.finish(report);
    DraftCalendar { seasons, breaks, tip_earliest, game_max, schedule, codes, look_ahead, read_every }
}

fn days_of(mut table: Table, report: &mut Report) -> Option<Span> {
    let place = table.place().clone();
    let name = table.required_text("name", report);
    let day = |key: &'static str, table: &mut Table, report: &mut Report| -> Option<Date> {
        let found = table.required_text(key, report)?;
        let date = found.value.parse();
        date.map_err(|_| report.at(&found.place, format!("`{}` is no date; write one as 2026-01-31", found.value))).ok()
    };
    let from = day("from", &mut table, report);
    let until = day("until", &mut table, report);
    table.finish(report);
    let (name, from, until) = (name?, from?, until?);
    if until < from {
        report.at(&place, "ends before it begins");
    }
    Some(Span { name: name.value.into(), from, until })
}

fn message(mut table: Table, report: &mut Report) -> DraftMessage {
    let topic = table.text("topic", report);
    let http = table.table("http", report).and_then(|mut table| {
        let service = table.required_text("service", report);
        let path = table.required_text("path", report);
        table.finish(report);
        Some((service?, path?))
    });
    let schema = table.text("schema", report);
    table.require("body", report);
    let message = DraftMessage {
        place: table.place().clone(),
        topic,
        http,
        schema,
        body: table.any("body", report),
        attributes: table.any("attributes", report),
    };
    table.finish(report);
    message
}

fn gate(table: &mut Table, report: &mut Report) -> (DraftGate, Vec<DraftNeed>) {
    for key in ["members", "quorum"] {
        table.require(key, report);
    }
    let coverage_min = share(table, "coverage_min", report);
    let member = |found: Found<String>| DraftNeed {
        node: found.value,
        place: found.place,
        strength: Strength::Soft,
        offset: Offset::Same,
        coverage_min: coverage_min.clone(),
        grace: None,
        debounce: SignedDuration::ZERO,
        refresh: Refresh::Always,
    };
    let members = table.texts("members", report).into_iter().map(member).collect();
    let critical = table.texts("critical", report);
    let place = table.place();
    let quorum_place = Place { line: place.line, key: format!("{}.quorum", place.key) };
    let quorum = table.tables("quorum", report).into_iter().map(|table| tier(table, report)).collect();
    (DraftGate { critical, quorum, quorum_place }, members)
}

fn tier(mut table: Table, report: &mut Report) -> DraftTier {
    let place = table.place().clone();
    let count = table.integer("count", report);
    let share = share(&mut table, "share", report);
    let after = duration(&mut table, "after", report).map_or(SignedDuration::ZERO, |found| found.value);
    table.finish(report);
    let size = match (count, share) {
        (Some(count), None) => match u32::try_from(count.value) {
            Ok(count) if count > 0 => Size::Count(count),
            Ok(_) | Err(_) => {
                report.at(&count.place, "a tier asks for one member at least");
                Size::Unsaid
            }
        },
        (None, Some(share)) if share.value > PerMille::NONE => Size::Share(share.value),
        (None, Some(share)) => {
            report.at(&share.place, "a tier asks for one member at least");
            Size::Unsaid
        }
        (None, None) | (Some(_), Some(_)) => {
            report.at(&place, "write either count or share");
            Size::Unsaid
        }
    };
    DraftTier { place, size, after }
}

fn share(table: &mut Table, key: &'static str, report: &mut Report) -> Option<Found<PerMille>> {
    let found = table.number(key, report)?;
    let thousandths = found.value * 1000.0;
    let whole = thousandths.round();
    if !(0.0..=1000.0).contains(&whole) {
        report.at(&found.place, format!("{} is outside 0 to 1", found.value));
        return None;
    }
    // 0.7 times 1000 is not exactly 700; a millionth is far below the one thousandth that is kept.
    if (thousandths - whole).abs() > 1e-6 {
        report.at(&found.place, format!("{} has more than three decimals", found.value));
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within 0 to 1000")]
    let value = PerMille::new(whole as u16)?;
    Some(Found { value, place: found.place })
}

fn duration(table: &mut Table, key: &'static str, report: &mut Report) -> Option<Found<SignedDuration>> {
    let found = table.text(key, report)?;
    let value = parse_duration(&found, report)?;
    Some(Found { value, place: found.place })
}

fn parse_duration(found: &Found<String>, report: &mut Report) -> Option<SignedDuration> {
    let parsed = topology::duration(&found.value)
        .and_then(|duration| SignedDuration::try_from(duration).map_err(|_| format!("{} is too long", found.value)));
    parsed.map_err(|message| report.at(&found.place, message)).ok()
}
