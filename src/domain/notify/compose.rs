//! The words of a notice: what is folded into what, which commands show more, and which do something.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;

use super::super::effect::{Alert, Severity};
use super::super::graph::Graph;
use super::super::id::{AlertKey, NodeId, PartitionKey, PipelineId};
use super::super::time::shown;
use super::{DOWNSTREAM_MAX, ITEMS_MAX, Item, Known, News, Notice, NoticeKind};

/// Characters of a text that a notice carries: a sentence with a list of games or nodes has some hundreds.
const TEXT_MAX: usize = 1_000;

/// Bytes of a key that a command shows; what is longer carries a name that nobody would type.
const KEY_MAX: usize = 200;
/// Topics that say something of a node, and of which nothing that is wrong downstream comes.
const NO_CAUSE: [&str; 9] =
    ["double-run", "other-date", "outdated", "overdue", "quorum", "reconciled", "storm", "unknown-name", "wrong-topic"];
/// Characters of the text of an alert that is folded into another.
const AFFECTED_MAX: usize = 150;
/// Characters of a key in a short notice.
const SHORT_KEY_MAX: usize = 120;
/// Characters of what an alert said that is over.
const WAS_MAX: usize = 300;

/// One alert to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub key: &'a AlertKey,
    pub known: &'a Known,
    pub news: News,
}

impl Notice {
    /// A sign of life.
    pub fn heartbeat(id: String, at: Timestamp) -> Self {
        let title = "tipoff looks at its alerts, and this channel works".to_owned();
        Self::bare(id, at, NoticeKind::Heartbeat, title)
    }

    /// Somebody tries the channel.
    pub fn test(id: String, at: Timestamp, actor: &str) -> Self {
        let title = format!("{} tries this channel; nothing is wrong", limited(actor, 100));
        Self::bare(id, at, NoticeKind::Test, title)
    }

    fn bare(id: String, at: Timestamp, kind: NoticeKind, title: String) -> Self {
        Self { id, at, kind, severity: Severity::Info, title, items: Vec::new(), left_out: 0 }
    }
}

/// The notice of `lines`. An alert whose node hangs downstream of another one that alerts is folded into that one.
pub(super) fn notice(
    id: &str,
    at: Timestamp,
    kind: NoticeKind,
    lines: &[Line<'_>],
    standing: &BTreeSet<&AlertKey>,
    alerts: &BTreeMap<AlertKey, Known>,
    graphs: &BTreeMap<PipelineId, &Graph>,
) -> Notice {
    let roots = Roots::of(standing, alerts, graphs);
    let mut items: Vec<Item> = Vec::new();
    let mut folded: BTreeMap<&AlertKey, Vec<&Line<'_>>> = BTreeMap::new();
    for line in lines {
        match roots.root_of(line) {
            Some(root) => folded.entry(root).or_default().push(line),
            None => items.push(item(line, graphs)),
        }
    }
    for (root, below) in folded {
        let place = items.iter().position(|item| item.key == *root);
        let place = place.or_else(|| {
            // It has been told; what is new is what hangs on it.
            items.push(item(&Line { key: root, known: alerts.get(root)?, news: News::Still }, graphs));
            Some(items.len() - 1)
        });
        if let Some(root) = place.and_then(|place| items.get_mut(place)) {
            root.severity = below.iter().map(|line| line.known.told_as()).fold(root.severity, Severity::max);
            root.downstream = below.len();
            let name = |line: &&Line<'_>| {
                let node = line.known.about.node.as_ref().map(NodeId::as_str).unwrap_or_default();
                format!("{}:{node}: {}", line.key.topic(), limited(&line.known.text, AFFECTED_MAX))
            };
            root.affected = below.iter().take(DOWNSTREAM_MAX).map(name).collect();
        }
    }
    items.sort_by_key(|item| (item.news == News::Over, std::cmp::Reverse(item.severity), item.since));
    // A root that has been told before is no news; what hangs on it is.
    let on = lines.iter().filter(|line| line.news != News::Over);
    let severity = on.map(|line| line.known.told_as()).max().unwrap_or(Severity::Info);
    let title = title(kind, severity, &items);
    let left_out = items.len().saturating_sub(ITEMS_MAX);
    items.truncate(ITEMS_MAX);
    Notice { id: id.to_owned(), at, kind, severity, title, items, left_out }
}

/// A notice in a form that every channel takes: how many alerts, and the key of the worst, in plain letters.
pub(super) fn short(notice: &Notice) -> Notice {
    let count = notice.items.len() + notice.left_out;
    let severity = notice.severity.as_str();
    let title = match (notice.items.first(), count) {
        (Some(only), 1) => format!("{severity}: {}; see `tipoff alerts`", plain(&only.key)),
        (Some(worst), _) => format!("{count} alerts, the worst {severity}: {}; see `tipoff alerts`", plain(&worst.key)),
        (None, _) => format!("{count} alerts, the worst {severity}; see `tipoff alerts`"),
    };
    let (id, kind, items) = (format!("{}-short", notice.id), NoticeKind::Short, Vec::new());
    Notice { id, at: notice.at, kind, severity: notice.severity, title, items, left_out: count }
}

/// A key in letters that nobody refuses; others become `?`.
fn plain(key: &AlertKey) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.:/".contains(letter);
    let letters = key.as_str().chars().map(|letter| if is_plain(letter) { letter } else { '?' });
    limited(&letters.collect::<String>(), SHORT_KEY_MAX)
}

/// What is said of an alert that is over: what it was, and what came of it where the end says that.
pub(super) fn over(was: &str, ended: &Alert) -> String {
    let was = limited(was, WAS_MAX);
    match &*ended.text {
        nothing if nothing == ended.key.as_str() || nothing == was => format!("over: {was}"),
        now => format!("{now}; it was: {was}"),
    }
}

/// One notice of all that waited. What is told twice of an alert is told as it was last.
pub(super) fn waited(notices: Vec<Notice>, since: Timestamp) -> Option<Notice> {
    let mut notices: VecDeque<Notice> = notices.into();
    let last = notices.back()?;
    let (id, at) = (last.id.clone(), last.at);
    // A test or a sign of life is no news any more.
    notices.retain(|notice| !matches!(notice.kind, NoticeKind::Test | NoticeKind::Heartbeat));
    if notices.is_empty() {
        return None;
    }
    let mut left_out = 0;
    let mut items: Vec<Item> = Vec::new();
    for notice in notices {
        left_out += notice.left_out;
        for item in notice.items {
            items.retain(|known| known.key != item.key);
            items.push(item);
        }
    }
    items.sort_by_key(|item| (item.news == News::Over, std::cmp::Reverse(item.severity), item.since));
    let severity = worst(&items);
    let count = items.len() + left_out;
    let alerts = if count == 1 { "alert" } else { "alerts" };
    let title = format!("{count} {alerts} waited, for this channel could not be reached since {}", shown(since));
    items.truncate(ITEMS_MAX);
    left_out = count - items.len();
    Some(Notice { id, at, kind: NoticeKind::Waited, severity, title, items, left_out })
}

/// Which of the alerts that are on are upstream of which.
struct Roots<'a> {
    /// By date and node, the worst alert about it that may be the cause of others.
    worst: BTreeMap<(&'a PartitionKey, &'a NodeId), (&'a AlertKey, Severity)>,
    graphs: &'a BTreeMap<PipelineId, &'a Graph>,
}

impl<'a> Roots<'a> {
    fn of(
        standing: &BTreeSet<&'a AlertKey>,
        alerts: &'a BTreeMap<AlertKey, Known>,
        graphs: &'a BTreeMap<PipelineId, &'a Graph>,
    ) -> Self {
        let mut worst: BTreeMap<_, (&AlertKey, Severity)> = BTreeMap::new();
        for (key, known) in alerts.iter().filter(|(key, _)| standing.contains(key) && !NO_CAUSE.contains(&key.topic()))
        {
            if let (Some(partition), Some(node)) = (&known.about.partition, &known.about.node) {
                let found = worst.entry((partition, node)).or_insert((key, known.severity));
                if known.severity > found.1 {
                    *found = (key, known.severity);
                }
            }
        }
        Self { worst, graphs }
    }

    /// The alert into which a line is folded: that of the farthest node upstream that alerts and is at least as bad. What
    /// is critical by itself is always told by itself, and so is every end.
    fn root_of(&self, line: &Line<'_>) -> Option<&'a AlertKey> {
        let (partition, node) = (line.known.about.partition.as_ref()?, line.known.about.node.as_ref()?);
        if line.known.severity == Severity::Critical || line.news == News::Over {
            return None;
        }
        let graph = self.graphs.get(&partition.pipeline)?;
        let mut upstream: BTreeSet<&NodeId> = BTreeSet::new();
        let mut open = vec![node];
        while let Some(next) = open.pop() {
            let needs = graph.node(next).into_iter().flat_map(|node| &node.needs);
            open.extend(needs.map(|need| &need.node).filter(|needed| upstream.insert(needed)));
        }
        let alerting = |id: &&NodeId| {
            let found = self.worst.get(&(partition, *id));
            upstream.contains(*id)
                && **id != *node
                && found.is_some_and(|(_, severity)| *severity >= line.known.severity)
        };
        let root = graph.order.iter().find(alerting)?;
        self.worst.get(&(partition, root)).map(|(key, _)| *key)
    }
}

fn item(line: &Line<'_>, graphs: &BTreeMap<PipelineId, &Graph>) -> Item {
    let Line { key, known, news } = *line;
    let (partition, node) = (known.about.partition.clone(), known.about.node.clone());
    let (look, act) = commands(key, partition.as_ref(), node.as_ref(), news, graphs);
    let escalated = known.escalated.filter(|_| news != News::Over).map(|tip| {
        format!("a warning, told as critical because the first game that has not begun does so at {}", shown(tip))
    });
    Item {
        key: key.clone(),
        news,
        severity: known.told_as(),
        partition,
        node,
        text: limited(&known.text, TEXT_MAX),
        done: known.about.done.as_ref().filter(|_| news != News::Over).map(|done| limited(done, TEXT_MAX)),
        escalated,
        since: known.since,
        over_since: known.over_since,
        downstream: 0,
        affected: Vec::new(),
        look,
        act,
    }
}

fn commands(
    key: &AlertKey,
    partition: Option<&PartitionKey>,
    node: Option<&NodeId>,
    news: News,
    graphs: &BTreeMap<PipelineId, &Graph>,
) -> (Vec<String>, Vec<String>) {
    let graph = partition.and_then(|partition| graphs.get(&partition.pipeline));
    let mut look = Vec::new();
    let mut act = Vec::new();
    match (partition, node) {
        (Some(PartitionKey { pipeline, date }), Some(node)) => {
            look.push(format!("tipoff why {node} {date} -p {pipeline}"));
            look.push(format!("tipoff timeline {date} {node} -p {pipeline}"));
            let runs = graph.and_then(|graph| graph.node(node)).is_some_and(|node| node.dispatchable().is_some());
            if runs {
                act.push(format!("tipoff retry {date} {node} --reason WHY -p {pipeline}"));
                act.push(format!("tipoff hold {date} {node} --reason WHY -p {pipeline}"));
            }
        }
        (Some(PartitionKey { pipeline, date }), None) => look.push(format!("tipoff status {date} -p {pipeline}")),
        (None, _) => {}
    }
    match key.topic() {
        "self" => look.push("tipoff doctor".to_owned()),
        "parked" => look.push("tipoff dlq list --kind parked".to_owned()),
        "dead-letter" => look.push("tipoff dlq list".to_owned()),
        "backfill-proposed" | "source-down" => look.push("tipoff backfill status".to_owned()),
        "stopped" if partition.is_some() => {
            let pipeline = partition.map(|partition| partition.pipeline.as_str()).unwrap_or_default();
            act.push(format!("tipoff resume all --reason WHY -p {pipeline}"));
        }
        _ if partition.is_none() => look.push("tipoff alerts".to_owned()),
        _ => {}
    }
    if news == News::Over {
        act.clear();
    } else {
        let what = match key.as_str().len() {
            0..=KEY_MAX => quoted(key.as_str()),
            _ => format!("--topic {}", quoted(key.topic())),
        };
        act.push(format!("tipoff mute {what} --for 4h --reason WHY"));
    }
    (look, act)
}

/// A word as a shell takes it. Keys may carry names that strangers chose.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/@+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    let word: String = word.chars().filter(|character| !character.is_control()).collect();
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn title(kind: NoticeKind, severity: Severity, items: &[Item]) -> String {
    let on = || items.iter().filter(|item| item.news != News::Over);
    let over = items.len() - on().count();
    let below: usize = items.iter().map(|item| item.downstream).sum();
    let digest = if kind == NoticeKind::Digest { "digest: " } else { "" };
    if let ([only], NoticeKind::Alerts) = (items, kind) {
        let what = match only.news {
            News::Over => "over".to_owned(),
            News::Still if below == 0 => format!("still {}", severity.as_str()),
            News::Still | News::On | News::Worse | News::Unmuted => severity.as_str().to_owned(),
        };
        let whose = match (&only.node, &only.partition) {
            (Some(node), Some(partition)) => format!("{} {node} of {partition}", only.key.topic()),
            _ => limited(only.key.as_str(), 120),
        };
        return match (below, only.news) {
            (0, _) => format!("{what}: {whose}"),
            (below, News::Still) => format!("{what}: {below} more downstream of {whose}"),
            (below, _) => format!("{what}: {whose}, {below} downstream affected"),
        };
    }
    let mut words = Vec::new();
    for severity in [Severity::Critical, Severity::Warning, Severity::Info] {
        let count = on().filter(|item| item.severity == severity).count();
        if count > 0 {
            words.push(format!("{count} {}", severity.as_str()));
        }
    }
    if over > 0 {
        words.push(format!("{over} over"));
    }
    if below > 0 {
        words.push(format!("{below} downstream affected"));
    }
    let dates: BTreeSet<Option<&PartitionKey>> = items.iter().map(|item| item.partition.as_ref()).collect();
    let whose = match dates.iter().next() {
        Some(Some(date)) if dates.len() == 1 => format!(" of {date}"),
        Some(_) | None => String::new(),
    };
    format!("{digest}{} alerts{whose}: {}", items.len(), words.join(", "))
}

/// How bad the worst is that is on.
fn worst(items: &[Item]) -> Severity {
    let on = items.iter().filter(|item| item.news != News::Over);
    on.map(|item| item.severity).max().unwrap_or(Severity::Info)
}

/// At most so many characters.
fn limited(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_plain_or_quoted_so_that_no_shell_obeys_it() {
        let plain = "failed:p2_odds-props:nba/2026-01-22@a.b+c,d";
        assert_eq!(quoted(plain), plain);
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("$(reboot)"), "'$(reboot)'");
        assert_eq!(quoted("it's; reboot"), r"'it'\''s; reboot'");
        assert_eq!(quoted("a\nreboot"), "'areboot'");
    }
}
