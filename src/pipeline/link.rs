//! What do the names in a pipeline refer to, and does the whole make sense? Turns a draft into what decisions trust.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;

use crate::diagnostic::{Any, Found, Place, Report, suggestion};
use crate::domain::backfill::{Backfill, Road};
use crate::domain::calendar::Calendar;
use crate::domain::coverage::PerMille;
use crate::domain::graph::{Check, Dependency, Gate, Graph, Kind, Node, Offset, Strength, Tier};
use crate::domain::id::{CheckId, NodeId};
use crate::topology::{Carries, Delivery, PushBody, Standing, Topology, show};
use crate::wire::dispatch::{Contract, MANIFEST_KEY, Message, Purpose, Target, Template, rehearse};
use crate::wire::inbound::Naming;

use super::draft::{Draft, DraftCheck, DraftGate, DraftKind, DraftMessage, DraftNeed, DraftNode, Size};
use super::probe::{self, DraftAsk, Probe};
use super::{Pipeline, ScheduleReading};

/// Links one pipeline; every mistake is noted, and the result is of use only where none was.
pub(super) fn pipeline(draft: Draft, revision: u64, topology: Option<&Topology>, report: &mut Report) -> Pipeline {
    let linking = Linking { draft: &draft, topology };
    linking.check_families(report);
    let aliases = linking.aliases(report);
    let files = linking.files(report);
    let nodes = linking.nodes(report);
    let order = linking.order(report);
    linking.check_reach(report);
    linking.check_monitors(report);
    let tasks = linking.tasks(&nodes, report);
    let closings = linking.closings(&nodes, report);
    let (roads, backfills) = linking.backfills(&nodes, report);
    let outputs = linking.outputs(report);
    let probes = linking.probes(report);
    let checks = linking.checks(report);
    let classes = linking.classes();
    let calendar = linking.calendar(report);
    let reading = ScheduleReading { look_ahead: draft.calendar.look_ahead, every: draft.calendar.read_every };
    let mut graph = Graph::new(
        draft.id.clone(),
        revision,
        draft.zone.clone(),
        nodes,
        order,
        draft.cycles.clone(),
        aliases,
        draft.limits.clone(),
    );
    graph.failures = draft.failures;
    graph.calendar = calendar;
    graph.backfill = Backfill { limits: draft.backfill, roads };
    let naming = Naming { datasets: draft.datasets, files, untracked: draft.untracked };
    Pipeline {
        graph: Arc::new(graph),
        tasks,
        closings,
        backfills,
        outputs,
        probes,
        checks,
        reading,
        reports: draft.reports,
        monitors: draft.monitors,
        classes,
        services: draft.services,
        dispatches_per_second: draft.dispatches_per_second,
        dispatches_per_hour: draft.dispatches_per_hour,
        naming,
    }
}

fn check(check: &DraftCheck) -> Check {
    Check {
        id: check.id.as_str().into(),
        warn_below: check.warn_below,
        block_below: check.block_below,
        unanswered: check.unanswered,
    }
}

struct Linking<'a> {
    draft: &'a Draft,
    topology: Option<&'a Topology>,
}

impl Linking<'_> {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.draft.nodes.keys().map(String::as_str)
    }

    /// Notes a name that no node has.
    fn check_node(&self, name: &str, place: &Place, report: &mut Report) -> bool {
        let known = self.draft.nodes.contains_key(name);
        if !known {
            report.at(place, format!("no node `{name}` is declared{}", suggestion(name, self.names())));
        }
        known
    }

    /// The node whose processor `id` is: the one it is `same_as`, or itself.
    fn root<'n>(&'n self, id: &'n str) -> &'n str {
        let same_as = self.draft.nodes.get(id).and_then(|node| node.same_as.as_ref());
        same_as.map(|found| found.value.as_str()).filter(|root| self.draft.nodes.contains_key(*root)).unwrap_or(id)
    }

    fn root_node<'n>(&'n self, id: &'n str) -> Option<&'n DraftNode> {
        self.draft.nodes.get(self.root(id))
    }

    /// A phase that no node has, or that asks for more processors than it has, would never be done.
    fn check_monitors(&self, report: &mut Report) {
        for (label, expected) in &self.draft.monitored_phases {
            let is_processor = |(id, node): &(&String, &DraftNode)| {
                let is_gate = matches!(node.kind, Some(DraftKind::Gate(_)));
                self.root(id) == id.as_str() && node.phase.as_ref() == Some(&label.value) && !is_gate
            };
            let processors = self.draft.nodes.iter().filter(is_processor).count();
            if usize::try_from(*expected).is_ok_and(|expected| expected > processors) {
                let message = format!("expects {expected} processors of the {processors} that have the phase");
                report.at(&label.place, message);
            }
        }
    }

    /// A processor that runs in several passes is several nodes: of one kind, in different passes, after one of them.
    fn check_families(&self, report: &mut Report) {
        let mut passes: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for (id, node) in &self.draft.nodes {
            if let Some(cycle) = &node.cycle {
                if let Some(earlier) = passes.insert((self.root(id), cycle.value.as_str()), id) {
                    report.at(
                        &cycle.place,
                        format!("`{id}` and `{earlier}` are one processor in one cycle; a message could mean either"),
                    );
                }
                if !self.draft.cycles.iter().any(|known| known.id.as_str() == cycle.value) {
                    let known = self.draft.cycles.iter().map(|known| known.id.as_str());
                    let near = suggestion(&cycle.value, known);
                    report.at(&cycle.place, format!("no cycle `{}` is declared{near}", cycle.value));
                }
            }
            let Some(same_as) = &node.same_as else { continue };
            if !self.check_node(&same_as.value, &same_as.place, report) {
                continue;
            }
            let root = &self.draft.nodes[&same_as.value];
            if let Some(further) = &root.same_as {
                let message = format!("`{}` is the same as `{}` itself; name that", same_as.value, further.value);
                report.at(&same_as.place, message);
            }
            if let (Some(ours), Some(theirs)) = (&node.kind, &root.kind)
                && ours.as_str() != theirs.as_str()
            {
                let message = format!("`{}` is a {}, this a {}", same_as.value, theirs.as_str(), ours.as_str());
                report.at(&same_as.place, message);
            }
        }
    }

    fn rank(&self, id: &str) -> usize {
        let cycle = self.draft.nodes.get(id).and_then(|node| node.cycle.as_ref());
        let position =
            |cycle: &Found<String>| self.draft.cycles.iter().position(|known| known.id.as_str() == cycle.value);
        cycle.and_then(position).unwrap_or(usize::MAX)
    }

    /// Every name to the nodes of the one processor that uses it, in the order of their passes.
    fn aliases(&self, report: &mut Report) -> BTreeMap<String, Vec<NodeId>> {
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        let mut aliases: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
        let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for id in self.names() {
            families.entry(self.root(id)).or_default().push(id);
            owners.insert(id.to_ascii_lowercase(), id);
        }
        for (root, members) in &mut families {
            members.sort_by_key(|id| (self.rank(id), *id));
            let all: Vec<NodeId> = members.iter().map(|id| NodeId::from(*id)).collect();
            for id in members.iter().filter(|id| *id != root) {
                aliases.insert(id.to_ascii_lowercase(), vec![NodeId::from(*id)]);
            }
            aliases.insert(root.to_ascii_lowercase(), all);
        }
        for (id, node) in &self.draft.nodes {
            let root = self.root(id);
            for alias in &node.aliases {
                let key = alias.value.to_ascii_lowercase();
                match owners.get(&key) {
                    Some(owner) if self.root(owner) != root => {
                        let message =
                            format!("`{}` is a name of `{owner}` already; it cannot mean `{id}` too", alias.value);
                        report.at(&alias.place, message);
                    }
                    Some(_) => {}
                    None => {
                        owners.insert(key.clone(), id);
                        let all = families.get(root).into_iter().flatten().map(|id| NodeId::from(*id)).collect();
                        aliases.insert(key, all);
                    }
                }
            }
        }
        aliases
    }

    /// Every place in the bucket to the processor that writes there.
    fn files(&self, report: &mut Report) -> BTreeMap<String, String> {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for (id, node) in &self.draft.nodes {
            for place in &node.files {
                match files.get(&place.value) {
                    Some(owner) => {
                        report.at(&place.place, format!("`{owner}` writes to `{}` already", place.value));
                    }
                    None => {
                        files.insert(place.value.clone(), self.root(id).to_owned());
                    }
                }
            }
        }
        files
    }

    fn nodes(&self, report: &mut Report) -> BTreeMap<NodeId, Node> {
        let mut nodes = BTreeMap::new();
        for (id, node) in &self.draft.nodes {
            let needs = self.needs(node, report);
            let kind = match &node.kind {
                None => Kind::Source(None),
                Some(DraftKind::Source(road)) => Kind::Source(road.as_ref().map(|(task, _)| task.clone())),
                Some(DraftKind::Task { task, .. }) => Kind::Task(task.clone()),
                Some(DraftKind::Gate(gate)) => Kind::Gate(self.gate(node, gate, report)),
            };
            let phase = node.phase.clone().or_else(|| self.root_node(id)?.phase.clone()).unwrap_or_default();
            let cycle = node.cycle.as_ref().map_or("", |found| found.value.as_str()).into();
            let probed = self.ask(id).is_some();
            let id = NodeId::from(id.as_str());
            let mut expects = node.expects.clone();
            if let Some(root) = self.root_node(id.as_str()).filter(|_| !node.has_unit) {
                // Its probe is the root's, and so is what that counts.
                expects.unit = root.expects.unit;
            }
            expects.checks = node.checks.iter().map(check).collect();
            let node = Node { id: id.clone(), phase, cycle, needs, probed, expects, liveness: node.liveness, kind };
            nodes.insert(id, node);
        }
        nodes
    }

    fn needs(&self, node: &DraftNode, report: &mut Report) -> Vec<Dependency> {
        let mut needs: Vec<Dependency> = Vec::with_capacity(node.needs.len());
        for need in &node.needs {
            if !self.check_node(&need.node, &need.place, report) {
                continue;
            }
            if needs.iter().any(|earlier| earlier.node.as_str() == need.node) {
                report.at(&need.place, format!("`{}` is named twice", need.node));
                continue;
            }
            needs.push(self.need(need, report));
        }
        // What an attempt was made with is remembered as a digest over the edges in their order, so the order must not
        // follow from how a file was written: an override rewrites it.
        needs.sort_by(|a, b| a.node.cmp(&b.node));
        needs
    }

    fn need(&self, need: &DraftNeed, report: &mut Report) -> Dependency {
        let upstream = self.draft.nodes.get(&need.node).and_then(|node| node.kind.as_ref());
        let on_gate = matches!(upstream, Some(DraftKind::Gate(_)));
        if on_gate {
            let without_effect =
                [need.coverage_min.as_ref().map(|found| &found.place), need.grace.as_ref().map(|found| &found.place)];
            for place in without_effect.into_iter().flatten() {
                report.at(place, format!("has no effect; the gate `{}` itself says how much is enough", need.node));
            }
            if need.offset == Offset::PreviousGameDay {
                let message = format!("`{}` is a gate; only what has an output is carried to another date", need.node);
                report.at(&need.place, message);
            }
        }
        let coverage_min = match (&need.coverage_min, need.strength) {
            (Some(found), _) => found.value,
            (None, Strength::Optional) => PerMille::NONE,
            (None, Strength::Hard | Strength::Soft) if on_gate => PerMille::NONE,
            (None, Strength::Hard | Strength::Soft) => self.draft.coverage_min,
        };
        Dependency {
            node: need.node.as_str().into(),
            offset: need.offset,
            strength: need.strength,
            coverage_min,
            grace: need.grace.as_ref().map_or(SignedDuration::ZERO, |found| found.value),
            debounce: need.debounce,
            refresh: need.refresh,
        }
    }

    fn gate(&self, node: &DraftNode, gate: &DraftGate, report: &mut Report) -> Gate {
        let members: BTreeSet<&str> = node.needs.iter().map(|need| need.node.as_str()).collect();
        let total = u32::try_from(members.len()).unwrap_or(u32::MAX);
        for critical in &gate.critical {
            if !members.contains(critical.value.as_str()) {
                let near = suggestion(&critical.value, members.iter().copied());
                report.at(&critical.place, format!("`{}` is no member of this gate{near}", critical.value));
            }
        }
        let mut quorum: Vec<Tier> = Vec::with_capacity(gate.quorum.len());
        for tier in &gate.quorum {
            let count = match tier.size {
                Size::Count(count) => count,
                // Rounded up: four of five are asked for where 0.61 of five is 3.05.
                Size::Share(share) => (u32::from(share.get()) * total).div_ceil(1000),
                Size::Unsaid => continue,
            };
            if count > total {
                report.at(&tier.place, format!("asks for {count} of {total} members, which never happens"));
            }
            if let Some(before) = quorum.last() {
                let (after, held) = (show(tier.after.unsigned_abs()), show(before.after.unsigned_abs()));
                if tier.after <= before.after {
                    report.at(&tier.place, format!("comes after {after}, no later than the tier before it ({held})"));
                }
                if count >= before.count {
                    let message =
                        format!("asks for {count} members, no fewer than the tier before it ({})", before.count);
                    report.at(&tier.place, message);
                }
            }
            quorum.push(Tier { count, after: tier.after });
        }
        if gate.quorum.is_empty() {
            report.at(&gate.quorum_place, "has no tier, so the gate never opens");
        }
        Gate { critical: gate.critical.iter().map(|found| NodeId::from(found.value.as_str())).collect(), quorum }
    }

    /// The edges of the same date whose upstream exists: downstream to upstream.
    fn edges(&self) -> BTreeMap<&str, BTreeMap<&str, &Place>> {
        let mut all = BTreeMap::new();
        for (id, node) in &self.draft.nodes {
            let mut upstreams = BTreeMap::new();
            for need in &node.needs {
                if need.offset == Offset::Same && self.draft.nodes.contains_key(&need.node) {
                    upstreams.insert(need.node.as_str(), &need.place);
                }
            }
            all.insert(id.as_str(), upstreams);
        }
        all
    }

    /// Every node after what it depends on; each circle is noted once, at the edge that closes it.
    fn order(&self, report: &mut Report) -> Vec<NodeId> {
        let mut waiting = self.edges();
        let mut order = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let ready = waiting.iter().find(|(_, upstreams)| !upstreams.keys().any(|up| waiting.contains_key(up)));
            let next = match ready {
                Some((id, _)) => *id,
                None => {
                    let circle = circle(&waiting);
                    let Some((&first, &second)) = circle.first().zip(circle.get(1)) else { break };
                    let place = waiting.get_mut(first).and_then(|upstreams| upstreams.remove(second));
                    if let Some(place) = place {
                        let message = format!("`{first}` waits for itself: {}", circle.join(" needs "));
                        report.at(place, message);
                    }
                    continue;
                }
            };
            waiting.remove(next);
            order.push(NodeId::from(next));
        }
        order
    }

    /// A task that no source leads to would wait for ever, or start before anything has happened.
    fn check_reach(&self, report: &mut Report) {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        loop {
            let before = reached.len();
            for (id, node) in &self.draft.nodes {
                let is_source = matches!(node.kind, None | Some(DraftKind::Source(_)));
                // An edge to an unknown node is a mistake of its own, and might have been the way.
                let leads = |need: &DraftNeed| {
                    reached.contains(need.node.as_str()) || !self.draft.nodes.contains_key(&need.node)
                };
                if is_source || node.needs.iter().any(leads) {
                    reached.insert(id);
                }
            }
            if reached.len() == before {
                break;
            }
        }
        for (id, node) in &self.draft.nodes {
            if !reached.contains(id.as_str()) {
                report.at(&node.place, "no source leads here, so nothing will ever start it");
            }
        }
    }

    fn outputs(&self, report: &mut Report) -> BTreeMap<NodeId, String> {
        let mut outputs = BTreeMap::new();
        for (id, node) in &self.draft.nodes {
            if let Some(output) = &node.output {
                let ours = self.draft.datasets.iter().any(|prefix| output.value.starts_with(prefix.as_str()));
                if output.value.split('.').filter(|part| !part.is_empty()).count() != 2 {
                    report.at(&output.place, format!("`{}` is not DATASET.TABLE", output.value));
                } else if !ours {
                    let datasets = self.draft.datasets.join(", ");
                    report.at(
                        &output.place,
                        format!("`{}` is in none of this pipeline's datasets ({datasets})", output.value),
                    );
                }
            }
            if let Some(output) = self.output(id) {
                outputs.insert(NodeId::from(id.as_str()), output.to_owned());
            }
        }
        outputs
    }

    fn output<'n>(&'n self, id: &'n str) -> Option<&'n str> {
        let own = self.draft.nodes.get(id)?.output.as_ref();
        Some(&own.or_else(|| self.root_node(id)?.output.as_ref())?.value)
    }

    fn ask<'n>(&'n self, id: &'n str) -> Option<&'n DraftAsk> {
        self.draft.nodes.get(id)?.ask.as_ref().or_else(|| self.root_node(id)?.ask.as_ref())
    }

    fn probes(&self, report: &mut Report) -> BTreeMap<NodeId, Probe> {
        let mut probes = BTreeMap::new();
        for (id, node) in &self.draft.nodes {
            let Some(ask) = self.ask(id) else { continue };
            let Some(output) = self.output(id) else {
                report.at(&node.place, "is probed but has no output to look at");
                continue;
            };
            // What a processor's further passes share with its first was noted there.
            let mut unheard = Report::new("");
            let report = if node.ask.is_some() { &mut *report } else { &mut unheard };
            if !output.split('.').all(probe::is_identifier) {
                report.at(
                    &node.place,
                    format!("`{output}` cannot be asked about; a table's name has letters, digits and _"),
                );
            } else if let Some(probe) = probe::resolve(ask, output, &self.draft.probes, report) {
                probes.insert(NodeId::from(id.as_str()), probe);
            }
        }
        probes
    }

    /// What is asked before a task is dispatched, about its own output where the check names no other.
    fn checks(&self, report: &mut Report) -> BTreeMap<(NodeId, CheckId), Probe> {
        let mut checks = BTreeMap::new();
        for (id, node) in &self.draft.nodes {
            for check in &node.checks {
                let Some(ask) = &check.ask else { continue };
                let Some(output) = self.output(id) else {
                    report.at(&node.place, format!("`{id}` has a check but no output to look at"));
                    continue;
                };
                if let Some(probe) = probe::resolve(ask, output, &self.draft.probes, report) {
                    checks.insert((NodeId::from(id.as_str()), CheckId::from(check.id.as_str())), probe);
                }
            }
        }
        checks
    }

    fn calendar(&self, report: &mut Report) -> Calendar {
        let draft = &self.draft.calendar;
        if let Some(schedule) = &draft.schedule
            && self.check_node(&schedule.value, &schedule.place, report)
            && !matches!(self.draft.nodes[&schedule.value].kind, Some(DraftKind::Source(_)))
        {
            report.at(&schedule.place, format!("`{}` is no source", schedule.value));
        }
        Calendar {
            seasons: draft.seasons.clone(),
            breaks: draft.breaks.clone(),
            tip_earliest: draft.tip_earliest,
            game_max: draft.game_max,
            schedule: draft.schedule.as_ref().map(|found| NodeId::from(found.value.as_str())),
            codes: draft.codes.iter().map(|(code, team)| (code.as_str().into(), team.as_str().into())).collect(),
        }
    }

    /// What a node's processors call themselves: its aliases that begin with a capital and are no table's name, in the order
    /// of the file, or else the name of its first node.
    fn classes(&self) -> BTreeMap<NodeId, Vec<String>> {
        let classes = |id: &String| {
            let root = self.root(id);
            let aliases = self.draft.nodes.get(root).map(|node| node.aliases.as_slice()).unwrap_or_default();
            let is_class = |alias: &str| alias.starts_with(|c: char| c.is_ascii_uppercase()) && !alias.contains('.');
            let mut classes: Vec<String> =
                aliases.iter().map(|alias| alias.value.clone()).filter(|alias| is_class(alias)).collect();
            if classes.is_empty() {
                classes.push(root.to_owned());
            }
            (NodeId::from(id.as_str()), classes)
        };
        self.draft.nodes.keys().map(classes).collect()
    }

    fn tasks(&self, nodes: &BTreeMap<NodeId, Node>, report: &mut Report) -> BTreeMap<NodeId, Vec<Message>> {
        // Each message is read once, where it is written, and rehearsed for every node that sends it.
        let mut declared: BTreeMap<&str, Vec<(Option<Message>, &DraftMessage)>> = BTreeMap::new();
        for (id, node) in &self.draft.nodes {
            if let Some(DraftKind::Task { messages, .. } | DraftKind::Source(Some((_, messages)))) = &node.kind {
                let read = messages.iter().map(|draft| (self.message(draft, report), draft)).collect();
                declared.insert(id, read);
            }
        }
        let mut tasks = BTreeMap::new();
        for (id, node) in &self.draft.nodes {
            let Some(own) = declared.get(id.as_str()) else { continue };
            let messages = if own.is_empty() { declared.get(self.root(id)).unwrap_or(own) } else { own };
            if messages.is_empty() && matches!(node.kind, Some(DraftKind::Source(_))) {
                // It is asked for past dates alone.
                continue;
            }
            if messages.is_empty() {
                let place = Place { line: node.place.line, key: format!("{}.messages", node.place.key) };
                report.at(&place, "missing; without a message nothing would start this task");
            }
            let mut sent = Vec::with_capacity(messages.len());
            for (message, draft) in messages {
                let Some(message) = message else { continue };
                if let (Some(node), Some(body)) = (nodes.get(id.as_str()), &draft.body) {
                    rehearse(&self.draft.id, node, (message, Purpose::Run), body, report);
                }
                sent.push(message.clone());
            }
            tasks.insert(NodeId::from(id.as_str()), sent);
        }
        tasks
    }

    /// What is said to have a run closed; each is written at the node itself.
    fn closings(&self, nodes: &BTreeMap<NodeId, Node>, report: &mut Report) -> BTreeMap<NodeId, Vec<Message>> {
        let mut closings = BTreeMap::new();
        for (id, draft) in &self.draft.nodes {
            let mut sent = Vec::with_capacity(draft.close.len());
            for close in &draft.close {
                let Some(message) = self.message(close, report) else { continue };
                if let (Some(node), Some(body)) = (nodes.get(id.as_str()), &close.body) {
                    rehearse(&self.draft.id, node, (&message, Purpose::Close), body, report);
                }
                sent.push(message);
            }
            if !draft.close.is_empty() {
                closings.insert(NodeId::from(id.as_str()), sent);
            }
        }
        closings
    }

    /// How each node is asked for a past date, where not as usual. A further pass is asked as its first is.
    fn backfills(
        &self,
        nodes: &BTreeMap<NodeId, Node>,
        report: &mut Report,
    ) -> (BTreeMap<NodeId, Road>, BTreeMap<NodeId, Vec<Message>>) {
        let (mut roads, mut backfills) = (BTreeMap::new(), BTreeMap::new());
        for (id, node) in &self.draft.nodes {
            let is_own = !node.backfill.messages.is_empty() || node.backfill.refuse.is_some();
            let Some(declared) = (if is_own { Some(node) } else { self.root_node(id) }) else { continue };
            let key = NodeId::from(id.as_str());
            if let Some(why) = &declared.backfill.refuse {
                roads.insert(key, Road::Refused(why.value.as_str().into()));
                continue;
            }
            let mut unheard = Report::new("");
            let report = if is_own { &mut *report } else { &mut unheard };
            let mut sent = Vec::with_capacity(declared.backfill.messages.len());
            for draft in &declared.backfill.messages {
                let Some(message) = self.message(draft, report) else { continue };
                if let (Some(node), Some(body)) = (nodes.get(&key), &draft.body) {
                    rehearse(&self.draft.id, node, (&message, Purpose::Backfill), body, report);
                }
                sent.push(message);
            }
            if !declared.backfill.messages.is_empty() {
                let only = matches!(&declared.kind, Some(DraftKind::Source(Some((_, usual)))) if usual.is_empty());
                roads.insert(key.clone(), Road::Apart { only });
                backfills.insert(key, sent);
            }
        }
        (roads, backfills)
    }

    /// The message, if enough of it can be read for a rehearsal to say anything.
    fn message(&self, draft: &DraftMessage, report: &mut Report) -> Option<Message> {
        let noted = report.len();
        let mut attributes = BTreeMap::new();
        match &draft.attributes {
            Some(Found { value: Any::Table(entries), .. }) => {
                for (name, value) in entries {
                    attributes.insert(name.clone(), Template::read(value, report));
                }
            }
            Some(found) => report.at(&found.place, "expected a mapping"),
            None => {}
        }
        let body = draft.body.as_ref().map(|found| {
            match &found.value {
                Any::Table(entries) => {
                    if let Some((_, found)) = entries.iter().find(|(key, _)| key == MANIFEST_KEY) {
                        report.at(&found.place, "is reserved; what was decided is written there");
                    }
                }
                Any::Null | Any::Bool(_) | Any::Integer(_) | Any::Real(_) | Any::Text(_) | Any::List(_) => {
                    report.at(&found.place, "expected a mapping");
                }
            }
            Template::read(found, report)
        });
        let (target, expected) = self.target(draft, &attributes, report)?;
        let contract = self.contract(draft, expected, report)?;
        // A body with a mistake of its own would only be found wrong twice.
        (report.len() == noted).then_some(())?;
        Some(Message { target, contract, body: body?, attributes })
    }

    /// Where a message goes, and the schema that its topic carries.
    fn target(
        &self,
        draft: &DraftMessage,
        attributes: &BTreeMap<String, Template>,
        report: &mut Report,
    ) -> Option<(Target, Option<String>)> {
        match (&draft.topic, &draft.http) {
            (Some(topic), None) => {
                let schema = self.topic(topic, attributes, report)?;
                Some((Target::Topic(topic.value.clone()), schema))
            }
            (None, Some((service, path))) => {
                if !self.draft.services.contains_key(&service.value) {
                    let near = suggestion(&service.value, self.draft.services.keys().map(String::as_str));
                    report.at(&service.place, format!("no service `{}` is declared{near}", service.value));
                    return None;
                }
                if !path.value.starts_with('/') {
                    report.at(&path.place, format!("`{}` is not a path; it has to begin with /", path.value));
                    return None;
                }
                Some((Target::Http { service: service.value.clone(), path: path.value.clone() }, None))
            }
            (None, None) | (Some(_), Some(_)) => {
                report.at(&draft.place, "write either topic or http");
                None
            }
        }
    }

    /// Checks that somebody reads the topic; gives its schema.
    fn topic(
        &self,
        name: &Found<String>,
        attributes: &BTreeMap<String, Template>,
        report: &mut Report,
    ) -> Option<Option<String>> {
        let topology = self.topology?;
        let Some(topic) = topology.topic(&name.value) else {
            let near = suggestion(&name.value, topology.topics().map(|(known, _)| known.as_str()));
            report.at(&name.place, format!("no topic `{}` is declared{near}", name.value));
            return None;
        };
        if let Standing::Retired { why } = &topic.standing {
            report.at(&name.place, format!("`{}` is retired: {why}", name.value));
            return None;
        }
        if topic.subscriptions().len() == 0 {
            report.at(&name.place, format!("nobody reads `{}`, so nothing would start", name.value));
        }
        if topic.carries != Carries::Trigger {
            report.at(&name.place, format!("`{}` carries {}, not trigger", name.value, topic.carries.as_str()));
        }
        if topic.pipeline != self.draft.id.as_str() {
            report.at(&name.place, format!("`{}` belongs to {}", name.value, topic.pipeline));
        }
        let bare = topic
            .subscriptions()
            .any(|(_, subscription)| matches!(&subscription.delivery, Delivery::Push { body: PushBody::Payload, .. }));
        if bare && !attributes.contains_key("Content-Type") {
            report.at(
                &name.place,
                format!("`{}` pushes the payload itself; the attribute Content-Type has to say what it is", name.value),
            );
        }
        Some(topic.schema.clone())
    }

    fn contract(&self, draft: &DraftMessage, expected: Option<String>, report: &mut Report) -> Option<Contract> {
        let (name, place) = match (&draft.schema, &expected) {
            (Some(schema), Some(expected)) if schema.value != *expected => {
                report.at(&schema.place, format!("the topic carries {expected}, not {}", schema.value));
                return None;
            }
            (Some(schema), _) => (&schema.value, &schema.place),
            (None, Some(expected)) => (expected, &draft.place),
            (None, None) => {
                let place = Place { line: draft.place.line, key: format!("{}.schema", draft.place.key) };
                report.at(&place, "missing; without it the body cannot be checked");
                return None;
            }
        };
        let contract = Contract::named(name);
        if contract.is_none() {
            report.at(
                place,
                format!("no schema `{name}` is known for what is sent{}", suggestion(name, Contract::names())),
            );
        }
        contract
    }
}

/// A circle among the nodes that wait: its first node is repeated at the end.
fn circle<'a>(waiting: &BTreeMap<&'a str, BTreeMap<&'a str, &Place>>) -> Vec<&'a str> {
    let mut path: Vec<&str> = waiting.keys().take(1).copied().collect();
    while let Some(at) = path.last() {
        let upstreams = waiting.get(at).into_iter().flat_map(BTreeMap::keys);
        // Where nothing is ready every node has an upstream that waits, so the walk comes back to where it was.
        let Some(next) = upstreams.copied().find(|up| waiting.contains_key(up)) else { break };
        if let Some(start) = path.iter().position(|seen| *seen == next) {
            path.push(next);
            return path.split_off(start);
        }
        path.push(next);
    }
    Vec::new()
}
