//! Which nodes are there, what does each need, and what is said to the services that do the work?
//!
//! Reads `pipeline.yaml` beside `topics.yaml` and hands out what decisions trust: a [`Graph`] per pipeline, and the
//! messages of its tasks. It does not know how a dispatch is decided, nor how one travels. What holds of every
//! [`Declarations`] that exists:
//! - every name that an edge, a gate or a message mentions is declared, and every alias means one processor;
//! - no node waits for itself, and every task can be reached from a source;
//! - every message has a live topic with a consumer, or a declared service, and satisfies its receiver's contract.

pub mod difference;
mod draft;
pub mod in_force;
mod link;
mod monitors;
pub mod probe;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::diagnostic::{self, Problems};
use crate::domain::effect::{Cause, Dispatch};
use crate::domain::graph::Graph;
use crate::domain::id::{CheckId, NodeId, PipelineId};
use crate::monitor;
use crate::topology::{self, Topology};
use crate::wire::dispatch::{Message, Target};
use crate::wire::inbound::Naming;
use crate::wire::report;
use probe::Probe;

/// The topology that is compiled in.
pub const TOPICS: &str = include_str!("../topics.yaml");
/// The pipelines that are compiled in.
pub const PIPELINE: &str = include_str!("../pipeline.yaml");

/// Everything declared, checked as a whole.
#[derive(Debug)]
pub struct Declarations {
    /// Topics and subscriptions.
    pub topology: Topology,
    /// Pipelines by name.
    pub pipelines: BTreeMap<PipelineId, Pipeline>,
}

impl Declarations {
    /// The classes of failures of every pipeline, which are topics of alerts.
    pub fn failure_classes(&self) -> impl Iterator<Item = &str> {
        self.pipelines.values().flat_map(|pipeline| &pipeline.graph.failures).map(|class| &*class.name)
    }
}

/// One pipeline: what decisions see, and what only messages and displays need.
#[derive(Debug)]
pub struct Pipeline {
    /// What decisions see.
    pub graph: Arc<Graph>,
    /// What is said to start a task; never empty.
    pub tasks: BTreeMap<NodeId, Vec<Message>>,
    /// What is said to have a run closed that does not come on.
    pub closings: BTreeMap<NodeId, Vec<Message>>,
    /// What is said to ask for a past date, where that is something else.
    pub backfills: BTreeMap<NodeId, Vec<Message>>,
    /// The table that a node writes, with its dataset.
    pub outputs: BTreeMap<NodeId, String>,
    /// What the warehouse is asked about a node's output.
    pub probes: BTreeMap<NodeId, Probe>,
    /// What it is asked before a node is dispatched.
    pub checks: BTreeMap<(NodeId, CheckId), Probe>,
    /// How the schedule is read.
    pub reading: ScheduleReading,
    /// What the warehouse is asked about a date.
    pub reports: BTreeMap<report::Kind, Probe>,
    /// What the monitors hold a date to.
    pub monitors: monitor::Settings,
    /// What a node's processors call themselves, in the history of runs and in their locks; the usual one first.
    pub classes: BTreeMap<NodeId, Vec<String>>,
    /// Dispatches a second to one target.
    pub dispatches_per_second: u32,
    /// Dispatches an hour to all targets; never 0.
    pub dispatches_per_hour: u32,
    /// Services that are asked directly rather than over a topic.
    pub services: BTreeMap<String, Service>,
    /// What messages may name beside the nodes.
    pub naming: Naming,
}

/// How the schedule is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScheduleReading {
    /// For so many days after today.
    pub look_ahead: i32,
    /// So often.
    pub every: SignedDuration,
}

/// A service that is asked directly.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// Where it is, if the declaration says so; the settings say it otherwise.
    pub url: Option<String>,
    /// Dispatches it takes a second, if not as many as any target.
    pub dispatches_per_second: Option<u32>,
}

impl Pipeline {
    /// What a node's processor calls itself.
    pub fn class<'a>(&'a self, node: &'a NodeId) -> &'a str {
        self.classes.get(node).and_then(|classes| classes.first()).map_or(node.as_str(), String::as_str)
    }

    /// What is said for a dispatch, or to have a run closed; nothing where its node declares nothing.
    pub fn messages(&self, dispatch: &Dispatch) -> Option<&[Message]> {
        let node = &dispatch.node;
        let is_apart = dispatch.manifest.cause == Cause::Backfill || !self.tasks.contains_key(node);
        let declared = if dispatch.manifest.closes.is_some() {
            &self.closings
        } else if is_apart && self.backfills.contains_key(node) {
            &self.backfills
        } else {
            &self.tasks
        };
        declared.get(node).map(Vec::as_slice).filter(|messages| !messages.is_empty())
    }

    /// How many dispatches a second may leave for `target`; never 0.
    pub fn dispatches_per_second(&self, target: &Target) -> u32 {
        let own = match target {
            Target::Topic(_) => None,
            Target::Http { service, .. } => {
                self.services.get(service).and_then(|service| service.dispatches_per_second)
            }
        };
        own.unwrap_or(self.dispatches_per_second)
    }
}

/// Reads both files, each given as its name and its text, or lists every mistake in them.
pub fn load(topics: (&str, &str), pipeline: (&str, &str)) -> Result<Declarations, Problems> {
    let (file, text) = topics;
    let topology = topology::check(text, file);
    // The pipelines are read even where the topics are wrong, so that one round of mending shows every mistake.
    let pipelines = read::file(pipeline, revision(pipeline.1), topology.as_ref().ok());
    match (topology, pipelines) {
        (Ok(topology), Ok(pipelines)) => Ok(Declarations { topology, pipelines }),
        (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => Err(problems),
        (Err(Problems(mut problems)), Err(Problems(more))) => {
            problems.extend(more);
            Err(Problems(problems))
        }
    }
}

/// The declarations that are compiled in.
pub fn shipped() -> Result<Declarations, Problems> {
    load(("topics.yaml", TOPICS), ("pipeline.yaml", PIPELINE))
}

/// The declaration with `patch` laid over it by the rules of RFC 7386: a mapping is merged, null removes, anything else
/// replaces. Written back as JSON, which is YAML.
pub fn with_overrides(file: &str, text: &str, patch: &Value) -> Result<String, Problems> {
    let mut declared: Value = diagnostic::parse(file, text)?;
    merge(&mut declared, patch);
    Ok(format!("{declared:#}\n"))
}

/// The declaration that is compiled in with these nodes of the pipeline `nba` and no other, nor another pipeline, nor what names
/// the nodes that are gone. `nba` is laid over the rest of that pipeline. For those who need a small graph on the real topics:
/// tests, benches, the simulation.
///
/// # Errors
/// If what is compiled in cannot be read, which is our bug; the nodes are read where it is loaded.
pub fn alone(nodes: serde_json::Map<String, Value>, nba: &Value) -> Result<String, Problems> {
    let mut declared: Value = diagnostic::parse("pipeline.yaml", PIPELINE)?;
    let mut pipeline = declared["pipelines"]["nba"].take();
    pipeline["nodes"] = Value::Object(nodes);
    merge(&mut pipeline, &serde_json::json!({ "services": null, "monitors": null }));
    merge(&mut pipeline, nba);
    declared["pipelines"] = serde_json::json!({ "nba": pipeline });
    Ok(format!("{declared:#}\n"))
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            members.remove(key);
        } else {
            merge(members.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// The digest of a file of pipelines. It is the same in every build and on every machine, since it is stored with every
/// decision.
pub fn revision(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::date;
    use serde_json::json;

    use super::*;
    use crate::domain::coverage::PerMille;
    use crate::domain::graph::{Kind, Offset};

    const TOPICS_OF_TESTS: &str = "version: 1
defaults:
  topic: { retention: 7d }
  push: { ack_deadline: 600s, attempts_max: 5, backoff: { min: 10s, max: 600s }, retention: 7d }
  pull: { ack_deadline: 60s, attempts_max: 5, backoff: { min: 10s, max: 600s }, retention: 7d }
topics:
  go-dlq: { purpose: p, pipeline: nba, carries: dead-letter, subscriptions: { go-dlq-sub: { consumer: o, delivery: pull } } }
  grade: { purpose: p, pipeline: nba, carries: trigger, schema: grading-trigger, subscriptions: { grade-sub: { consumer: g, delivery: push, endpoint: /, dead_letter: go-dlq } } }
  bare: { purpose: p, pipeline: nba, carries: trigger, schema: grading-trigger, subscriptions: { bare-sub: { consumer: g, delivery: push, endpoint: /, wrapped: false, dead_letter: go-dlq } } }
  other: { purpose: p, pipeline: mlb, carries: other }
  quiet: { purpose: p, pipeline: nba, carries: other }
  gone: { purpose: p, pipeline: nba, carries: trigger, retired: nobody grades any more }
";

    /// Everything before the nodes; they begin at line 19.
    const HEAD: &str = "version: 1
pipelines:
  nba:
    zone: America/New_York
    datasets: [nba_]
    limits: { ahead_max: 2d, behind_max: 400d, observe_every: 15m, dispatches_per_second: 10, dispatches_per_hour: 600 }
    services: { asked: {} }
    defaults:
      heartbeat: { every: 60s, stale_after: 5m, dead_after: 15m }
      start_within: 30m
      duration_max: 1h
      coverage_min: 0.80
      retry: { attempts_max: 3, not_started_max: 2, dispatches_max: 24, backoff: 5m, backoff_max: 30m }
      rebuild_after: 2m
    cycles:
      - { name: early, from: { day: -1, at: \"17:00\" }, until: { day: 0, at: \"00:00\" } }
      - { name: late, from: { day: 0, at: \"00:00\" }, until: { day: 7, at: \"00:00\" } }
    nodes:
";

    /// A source, and a task that is sound; the node under test follows on line 21.
    const SOUND: &str = "      games: { kind: source, phase: raw, cycle: late }
      work: { kind: task, phase: p, cycle: late, needs: { games: { strength: soft } }, messages: [{ topic: grade, body: { target_date: \"{{ date }}\", correlation_id: \"{{ correlation_id }}\", trigger_source: t } }] }
";

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 128, ..Default::default() })]
        /// Nodes that need one another at random are refused exactly where one of them reaches itself, and only such are named.
        #[test]
        fn who_waits_for_themselves_is_refused_and_nobody_else(
            edges in proptest::collection::btree_set((0_usize..7, 0_usize..7), 0..14),
        ) {
            let message = "messages: [{ topic: grade, body: { target_date: \"{{ date }}\", correlation_id: \"{{ correlation_id }}\", trigger_source: t } }]";
            let mut nodes = String::new();
            for node in 0..7 {
                let of = edges.iter().filter(|(from, _)| *from == node);
                let needs: String = of.map(|(_, to)| format!(", n{to}: {{ strength: hard }}")).collect();
                nodes += &format!(
                    "      n{node}: {{ kind: task, phase: p, cycle: late, needs: {{ games: {{ strength: soft }}{needs} }}, {message} }}\n"
                );
            }
            let mut reached = edges.clone();
            for through in 0..7 {
                let more = |(from, to): &(usize, usize)| reached.contains(&(*from, through)) && reached.contains(&(through, *to));
                let pairs: Vec<(usize, usize)> = (0..49).map(|pair| (pair / 7, pair % 7)).filter(more).collect();
                reached.extend(pairs);
            }
            let round: Vec<String> = (0..7).filter(|node| reached.contains(&(*node, *node))).map(|node| format!("n{node}")).collect();
            match checked(&format!("{HEAD}{SOUND}{nodes}")) {
                Ok(_) => proptest::prop_assert_eq!(round, Vec::<String>::new()),
                Err(problems) => {
                    let told = problems.to_string();
                    for line in told.lines() {
                        let named = line.split('`').nth(1).unwrap_or_default().to_owned();
                        proptest::prop_assert!(line.contains(" waits for itself") && round.contains(&named), "{}", line);
                    }
                    for own in edges.iter().filter(|(from, to)| from == to) {
                        let named = format!("`n{}` waits for itself", own.0);
                        proptest::prop_assert!(told.contains(&named), "{}: {}", named, told);
                    }
                    proptest::prop_assert!(!round.is_empty(), "{}", told);
                }
            }
        }
    }

    fn checked(text: &str) -> Result<Declarations, Problems> {
        load(("t.yaml", TOPICS_OF_TESTS), ("p.yaml", text))
    }

    fn mistakes(text: &str) -> String {
        checked(text).map_or_else(|problems| problems.to_string(), |_| String::new())
    }

    fn task(body: &str) -> String {
        format!(
            "      grade: {{ kind: task, phase: p, cycle: late, needs: {{ games: {{ strength: soft }} }}, {body} }}\n"
        )
    }

    #[test]
    fn what_is_shipped_is_sound() {
        let declarations = shipped().unwrap_or_else(|problems| panic!("{problems}"));
        for (id, pipeline) in &declarations.pipelines {
            let graph = &pipeline.graph;
            assert_eq!(graph.order.len(), graph.nodes.len(), "{id}");
            for (at, node) in graph.order.iter().enumerate() {
                for need in graph.nodes[node].needs.iter().filter(|need| need.offset == Offset::Same) {
                    assert!(graph.order[..at].contains(&need.node), "{node} comes before {}", need.node);
                }
            }
        }
    }

    #[test]
    fn a_name_finds_the_pass_that_its_date_belongs_to() {
        // Class, table and config name mean one processor; which of its nodes follows from date and publish time alone.
        let graph = shipped().unwrap().pipelines["nba"].graph.clone();
        let noon: Timestamp = "2026-01-23T17:00:00Z".parse().unwrap();
        let table = [
            ("PlayerDailyCacheProcessor", 23, "player_daily_cache"),
            ("playerdailycacheprocessor", 22, "player_daily_cache.overnight"),
            ("nba_precompute.player_daily_cache", 24, "player_daily_cache"),
            ("player_daily_cache", 22, "player_daily_cache.overnight"),
            ("player_daily_cache.overnight", 24, "player_daily_cache.overnight"),
            ("ml_feature_store_v2", 24, "ml_feature_store.tomorrow"),
            ("AsyncUpcomingPlayerGameContextProcessor", 22, "upcoming_player_game_context"),
            ("p2_nba_raw.nbac_schedule", 23, "p2_nbacom_schedule"),
            ("nbac_player_boxscores", 22, "nbac_player_boxscore"),
            ("OddsApiPropsBatchProcessor", 23, "p2_odds_player_props"),
        ];
        for (name, day, expected) in table {
            let node = graph.resolve(name, date(2026, 1, day), noon).map(|id| id.as_str());
            assert_eq!(node, Some(expected), "{name} on the {day}");
        }
        assert_eq!(graph.resolve("NbacGambookProcessor", date(2026, 1, 23), noon), None);
    }

    #[test]
    fn a_gate_does_not_ask_for_more_than_what_waits_behind_it() {
        // The bar of a gate would silently overrule a lower one of the edge beside it.
        let graph = shipped().unwrap().pipelines["nba"].graph.clone();
        assert_eq!(graph.required_of(&"ml_feature_store".into()), PerMille::new(600).unwrap());
        let Kind::Gate(gate) = &graph.nodes["phase3_overnight"].kind else { panic!("a gate") };
        assert_eq!(gate.quorum.iter().map(|tier| tier.count).collect::<Vec<_>>(), [5, 3]);
    }

    #[test]
    fn each_mistake_in_a_node_is_named_with_its_place() {
        assert_eq!(mistakes(&format!("{HEAD}{SOUND}")), "");
        let message = r#"messages: [{ topic: grade, body: { target_date: "{{ date }}", correlation_id: c, trigger_source: t } }]"#;
        let table = [
            (
                task("mesages: []"),
                "p.yaml:21: pipelines.nba.nodes.grade.mesages: unknown key; did you mean `messages`?\n\
                 p.yaml:21: pipelines.nba.nodes.grade.messages: missing; without a message nothing would start this task",
            ),
            (
                "      a: { kind: sorce, phase: p, cycle: late }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.a.kind: `sorce` is not one of source, task, gate; did you mean `source`?",
            ),
            (
                "      a: { kind: source, phase: p, cycle: lat }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.a.cycle: no cycle `lat` is declared; did you mean `late`?",
            ),
            (
                "      a/b: { kind: source, phase: p, cycle: late }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.a/b: a name begins with a lower-case letter and goes on with lower-case letters, digits and _ - .",
            ),
            (
                "      a: { kind: source, phase: p, cycle: late, needs: { gams: { strength: hard } } }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.a.needs.gams: no node `gams` is declared; did you mean `games`?",
            ),
            (
                "      a: { kind: source, phase: p, cycle: late, needs: { games: { strength: hart, date: previous_game_day } } }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.a.needs.games.strength: `hart` is not one of hard, soft, optional; did you mean `hard`?",
            ),
            (
                "      a: { kind: source, phase: p, cycle: late, needs: { games: { coverage_min: 1.2 } } }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.a.needs.games.strength: missing\n\
                 p.yaml:21: pipelines.nba.nodes.a.needs.games.coverage_min: 1.2 is outside 0 to 1",
            ),
            (
                "      a: { kind: source, phase: p, cycle: late, aliases: [Work] }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.a.aliases[0]: `Work` is a name of `work` already; it cannot mean `a` too",
            ),
            (
                "      a: { kind: source, phase: p, cycle: late, files: [x/] }\n      b: { kind: source, phase: p, cycle: late, files: [x/] }\n".to_owned(),
                "p.yaml:22: pipelines.nba.nodes.b.files[0]: `a` writes to `x/` already",
            ),
            (
                "      a: { kind: source, phase: p, cycle: late, aliases: [X] }\n      b: { kind: source, phase: p, cycle: late, aliases: [x] }\n".to_owned(),
                "p.yaml:22: pipelines.nba.nodes.b.aliases[0]: `x` is a name of `a` already; it cannot mean `b` too",
            ),
            (
                "      work.early: { kind: task, same_as: wrok, cycle: early, needs: { games: { strength: soft } } }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.work.early.same_as: no node `wrok` is declared; did you mean `work`?\n\
                 p.yaml:21: pipelines.nba.nodes.work.early.messages: missing; without a message nothing would start this task",
            ),
            (
                "      work.early: { kind: source, same_as: work, cycle: late }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.work.early.cycle: `work.early` and `work` are one processor in one cycle; a message could mean either\n\
                 p.yaml:21: pipelines.nba.nodes.work.early.same_as: `work` is a task, this a source",
            ),
            (
                "      a: { kind: source, phase: p, cycle: late, output: raw.games }\n      b: { kind: source, phase: p, cycle: late, output: games, probe: rows }\n      c: { kind: source, phase: p, cycle: late, probe: rows }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.a.output: `raw.games` is in none of this pipeline's datasets (nba_)\n\
                 p.yaml:22: pipelines.nba.nodes.b.output: `games` is not DATASET.TABLE\n\
                 p.yaml:22: pipelines.nba.nodes.b.probe: no probe `rows` is declared\n\
                 p.yaml:23: pipelines.nba.nodes.c: is probed but has no output to look at",
            ),
            (
                "      a: { kind: source, phase: p, cycle: late, heartbeat: { stale_after: 2m } }\n      b: { kind: source, phase: p, cycle: late, heartbeat: { dead_after: 5m } }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.a.heartbeat.stale_after: 2m is shorter than 3 heartbeats (3m); a late one would be flagged\n\
                 p.yaml:22: pipelines.nba.nodes.b.heartbeat.dead_after: 5m is not longer than stale_after (5m)",
            ),
            (
                format!("      lost: {{ kind: task, phase: p, cycle: late, needs: {{}}, {message} }}\n"),
                "p.yaml:21: pipelines.nba.nodes.lost: no source leads here, so nothing will ever start it",
            ),
            (
                format!("      a: {{ kind: task, phase: p, cycle: late, needs: {{ games: {{ strength: soft }}, b: {{ strength: soft }} }}, {message} }}\n      b: {{ kind: task, phase: p, cycle: late, needs: {{ c: {{ strength: hard }} }}, {message} }}\n      c: {{ kind: task, phase: p, cycle: late, needs: {{ a: {{ strength: hard }}, work: {{ strength: hard, date: previous_game_day }} }}, {message} }}\n"),
                "p.yaml:21: pipelines.nba.nodes.a.needs.b: `a` waits for itself: a needs b needs c needs a",
            ),
            (
                "      g: { kind: gate, phase: p, cycle: late, members: [games, work], critical: [wrok], quorum: [{ count: 3 }, { share: 0.6, after: 1h }, { count: 1, after: 1h }] }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.g.critical[0]: `wrok` is no member of this gate; did you mean `work`?\n\
                 p.yaml:21: pipelines.nba.nodes.g.quorum[0]: asks for 3 of 2 members, which never happens\n\
                 p.yaml:21: pipelines.nba.nodes.g.quorum[2]: comes after 1h, no later than the tier before it (1h)",
            ),
            (
                "      g: { kind: gate, phase: p, cycle: late, members: [games, games], quorum: [{ after: 1h }, { count: 0 }] }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.g.quorum[0]: write either count or share\n\
                 p.yaml:21: pipelines.nba.nodes.g.quorum[1].count: a tier asks for one member at least\n\
                 p.yaml:21: pipelines.nba.nodes.g.members[1]: `games` is named twice",
            ),
            (
                "      g: { kind: gate, phase: p, cycle: late, members: [games], quorum: [] }\n      a: { kind: source, phase: p, cycle: late, needs: { g: { strength: hard, coverage_min: 0.5, date: previous_game_day } } }\n".to_owned(),
                "p.yaml:21: pipelines.nba.nodes.g.quorum: has no tier, so the gate never opens\n\
                 p.yaml:22: pipelines.nba.nodes.a.needs.g.coverage_min: has no effect; the gate `g` itself says how much is enough\n\
                 p.yaml:22: pipelines.nba.nodes.a.needs.g: `g` is a gate; only what has an output is carried to another date",
            ),
        ];
        for (nodes, expected) in table {
            assert_eq!(mistakes(&format!("{HEAD}{SOUND}{nodes}")), expected, "\n{nodes}");
        }
    }

    #[test]
    fn each_mistake_in_a_probe_is_named_with_its_place() {
        // The probe is on line 18, the node that asks it on 22.
        let with = |probe: &str, ask: &str| {
            let head =
                HEAD.replacen("    nodes:\n", &format!("    probes: {{ rows: {{ {probe} }} }}\n    nodes:\n"), 1);
            mistakes(&format!(
                "{head}{SOUND}      a: {{ kind: source, phase: p, cycle: late, output: nba_raw.a, probe: {ask} }}\n"
            ))
        };
        let sound = "with: { least: 1 }, sql: \"SELECT @least AS observed, 1 AS expected FROM {{ table }} WHERE {{ date_column }} = @date\"";
        for ask in ["rows", "{ name: rows }", "{ name: rows, date_column: day, with: { least: 5 } }"] {
            assert_eq!(with(sound, ask), "", "\n{ask}");
        }
        let (p, a) = ("p.yaml:18: pipelines.nba.probes.rows", "p.yaml:22: pipelines.nba.nodes.a.probe");
        let table = [
            (sound, "row", format!("{a}: no probe `row` is declared; did you mean `rows`?")),
            (sound, "true", format!("{a}: expected the name of a probe, or a mapping with name, date_column and with")),
            (sound, "{ nam: rows }", format!("{a}.nam: unknown key; did you mean `name`?\n{a}.name: missing")),
            (sound, "{ name: rows, date_column: \"a` b\" }", format!("{a}.date_column: `a` b` is no name of a column")),
            (
                sound,
                "{ name: rows, with: { last: 1 } }",
                format!("{a}.with.last: `rows` has no argument `last`; did you mean `least`?"),
            ),
            (sound, "{ name: rows, with: { least: many } }", format!("{a}.with.least: expected a whole number")),
            (
                "with: { least: 1.5 }",
                "rows",
                format!("{p}.sql: missing\n{p}.with.least: expected a whole number or text"),
            ),
            (
                "sql: \"DELETE FROM t; SELECT\"",
                "rows",
                format!(
                    "{p}.sql: a probe is one query; it begins with SELECT or WITH and has no `;`\n\
                     {p}.sql: names no column `observed`; a probe gives observed and expected\n\
                     {p}.sql: names no column `expected`; a probe gives observed and expected\n\
                     {p}.sql: does not ask about @date, so it would read every date"
                ),
            ),
            (
                "with: { least: 1 }, sql: \"SELECT @lest AS observed, 1 AS expected FROM {{ tabel }} WHERE d = @date\"",
                "rows",
                format!(
                    "{p}.sql: `tabel` is not known; did you mean `table`?; table and date_column are filled in\n\
                     {p}.sql: `@lest` is not declared under with; did you mean `least`?\n\
                     {p}.sql: `least` is declared under with and not used"
                ),
            ),
        ];
        for (probe, ask, expected) in table {
            assert_eq!(with(probe, ask), expected, "\n{probe}\n{ask}");
        }
    }

    #[test]
    fn each_mistake_in_a_report_is_named_with_its_place() {
        // The report is on line 18.
        let with = |report: &str| {
            let head = HEAD.replacen("    nodes:\n", &format!("    reports: {{ {report} }}\n    nodes:\n"), 1);
            mistakes(&format!("{head}{SOUND}"))
        };
        let columns = "team, latest_roster, player_count, is_playing";
        assert_eq!(with(&format!("roster_ages: {{ sql: \"SELECT {columns} FROM t WHERE day = @date\" }}")), "");
        let p = "p.yaml:18: pipelines.nba.reports";
        let table = [
            (
                "roster_age: {}".to_owned(),
                format!(
                    "{p}.roster_age: `roster_age` is not one of schedule, game_coverage, roster_ages; did you mean `roster_ages`?"
                ),
            ),
            (
                "roster_ages: { sql: \"SELECT team, latest_roster, player_count FROM t WHERE day = @day\" }".to_owned(),
                format!(
                    "{p}.roster_ages.sql: names no column `is_playing`; a report gives team, latest_roster, player_count and is_playing\n\
                     {p}.roster_ages.sql: does not ask about @date, so it would read every date\n\
                     {p}.roster_ages.sql: `@day` is not declared under with"
                ),
            ),
            (
                format!("roster_ages: {{ sql: \"SELECT {columns} FROM {{{{ table }}}} WHERE day = @date\" }}"),
                format!("{p}.roster_ages: a report names its tables itself; nothing is filled in"),
            ),
        ];
        for (report, expected) in table {
            assert_eq!(with(&report), expected, "\n{report}");
        }
    }

    #[test]
    fn each_mistake_in_a_monitor_is_named_with_its_place() {
        // The monitors are on line 18. A phase that cannot be done would never be done.
        let with = |monitors: &str| {
            let head = HEAD.replacen("    nodes:\n", &format!("    monitors: {{ {monitors} }}\n    nodes:\n"), 1);
            mistakes(&format!("{head}{SOUND}"))
        };
        let rosters =
            "roster_coverage: { teams: [BOS, LAL], warning_after: 3d, critical_after: 5d, game_day_after: 2d }";
        let sound =
            format!("game_coverage: {{ players_min: 8 }}, {rosters}, pipeline_health: [{{ phase: p, expected: 1 }}]");
        assert_eq!(with(&sound), "");
        let m = "p.yaml:18: pipelines.nba.monitors";
        let table = [
            ("game_covrage: {}".to_owned(), format!("{m}.game_covrage: unknown key; did you mean `game_coverage`?")),
            ("game_coverage: {}".to_owned(), format!("{m}.game_coverage.players_min: missing")),
            (
                rosters.replace("3d", "6d").replace("LAL", "BOS"),
                format!(
                    "{m}.roster_coverage.teams[1]: `BOS` is named twice\n\
                     {m}.roster_coverage: critical_after is shorter than warning_after"
                ),
            ),
            (rosters.replace("3d", "36h"), format!("{m}.roster_coverage.warning_after: expected whole days, as in 2d")),
            (
                "pipeline_health: [{ phase: raw, expected: 2 }, { phase: rwa, expected: 1 }]".to_owned(),
                format!(
                    "{m}.pipeline_health[0].phase: expects 2 processors of the 1 that have the phase\n\
                     {m}.pipeline_health[1].phase: expects 1 processors of the 0 that have the phase"
                ),
            ),
        ];
        for (monitors, expected) in table {
            assert_eq!(with(&monitors), expected, "\n{monitors}");
        }
    }

    #[test]
    fn a_probe_is_filled_in_for_each_node_that_asks_it() {
        // A further pass asks what its processor's first asks; the date alone is left open.
        let shipped = shipped().unwrap();
        let nba = &shipped.pipelines["nba"];
        let probe = &nba.probes["player_daily_cache.overnight"];
        assert_eq!(*probe, nba.probes["player_daily_cache"]);
        assert!(
            probe.sql.contains("FROM `nba_precompute.player_daily_cache` WHERE `cache_date` = @date"),
            "{}",
            probe.sql
        );
        assert_eq!(probe.arguments, BTreeMap::from([("rows_min".to_owned(), probe::Argument::Integer(8))]));
        for (id, node) in &nba.graph.nodes {
            assert_eq!(node.probed, nba.probes.contains_key(id), "{id}");
        }
    }

    #[test]
    fn a_processor_is_called_by_its_class_in_the_history() {
        let shipped = shipped().unwrap();
        let table = [
            ("player_daily_cache.overnight", "PlayerDailyCacheProcessor"),
            ("p2_nbacom_gamebook_pdf", "NbacGamebookProcessor"),
            ("predictions.tomorrow", "PredictionCoordinator"),
            ("nbac_gamebook_pdf", "nbac_gamebook_pdf"),
        ];
        for (node, class) in table {
            assert_eq!(shipped.pipelines["nba"].classes[node][0], class, "{node}");
        }
    }

    #[test]
    fn a_target_has_the_pace_of_its_pipeline_or_its_own() {
        let with = |limits: &str, service: &str| {
            let head =
                HEAD.replace("dispatches_per_second: 10,", limits).replace("asked: {}", &format!("asked: {service}"));
            checked(&format!("{head}{SOUND}"))
        };
        let pipelines = with("dispatches_per_second: 10,", "{ dispatches_per_second: 2 }").unwrap().pipelines;
        let pace = |target: Target| pipelines["nba"].dispatches_per_second(&target);
        assert_eq!(pace(Target::Topic("grade".into())), 10);
        assert_eq!(pace(Target::Http { service: "asked".into(), path: "/".into() }), 2);
        let problems = with("dispatches_per_second: 0,", "{ dispatches_per_second: fast }").unwrap_err().to_string();
        for place in [
            "p.yaml:6: pipelines.nba.limits.dispatches_per_second",
            "p.yaml:7: pipelines.nba.services.asked.dispatches_per_second",
        ] {
            assert!(problems.contains(place), "{problems}");
        }
        let problems = with("", "{}").unwrap_err().to_string();
        assert!(problems.contains("pipelines.nba.limits.dispatches_per_second: missing"), "{problems}");
    }

    #[test]
    fn each_mistake_in_a_class_of_failures_is_named_with_its_place() {
        let with = |class: &str| {
            let head = HEAD.replace("    services:", &format!("    failures: {{ {class} }}\n    services:"));
            mistakes(&format!("{head}{SOUND}"))
        };
        let until = r#"until: { at: "00:00", zone: America/Los_Angeles }"#;
        assert_eq!(with(&format!("quota: {{ match: [quota exceeded], {until}, spread: 10m }}")), "");
        let table = [
            ("quota: {}".to_owned(), "match: missing"),
            (
                format!("quota: {{ match: [], {until} }}"),
                "quota: has no words in match, so no error would be one of these",
            ),
            (format!("quota: {{ match: [\" \"], {until} }}"), "quota.match[0]: is empty, and every error has it"),
            (
                "quota: { match: [x], until: { at: noon, zone: UTC } }".to_owned(),
                "quota.until.at: `noon` is no clock time",
            ),
            (
                r#"quota: { match: [x], until: { at: "00:00", zone: Pacific } }"#.to_owned(),
                "quota.until.zone: `Pacific` is no time zone",
            ),
            (
                format!("quota: {{ match: [x], {until}, spred: 1m }}"),
                "quota.spred: unknown key; did you mean `spread`?",
            ),
        ];
        for (class, expected) in table {
            let found = with(&class);
            assert!(
                found.contains("p.yaml:7: pipelines.nba.failures.") && found.contains(expected),
                "{class}: {found}"
            );
        }
    }

    #[test]
    fn each_mistake_in_a_message_is_named_with_the_line_of_its_leaf() {
        // Lines: the node 21, its first message 27, the body's members from 29.
        let with = |target: &str, body: &str| {
            format!(
                "{HEAD}{SOUND}      grade:\n        kind: task\n        phase: p\n        cycle: late\n        needs: {{ games: {{ strength: soft }} }}\n        messages:\n          - {target}\n            body:\n{body}"
            )
        };
        let good = "              target_date: \"{{ date }}\"\n              correlation_id: c\n              trigger_source: t\n";
        let m = "pipelines.nba.nodes.grade.messages[0]";
        let table = [
            ("topic: grad", good, format!("p.yaml:27: {m}.topic: no topic `grad` is declared; did you mean `grade`?")),
            ("topic: gone", good, format!("p.yaml:27: {m}.topic: `gone` is retired: nobody grades any more")),
            (
                "topic: other",
                good,
                format!(
                    "p.yaml:27: {m}.topic: nobody reads `other`, so nothing would start\n\
                     p.yaml:27: {m}.topic: `other` carries other, not trigger\n\
                     p.yaml:27: {m}.topic: `other` belongs to mlb\n\
                     p.yaml:27: {m}.schema: missing; without it the body cannot be checked"
                ),
            ),
            (
                "topic: bare",
                good,
                format!(
                    "p.yaml:27: {m}.topic: `bare` pushes the payload itself; the attribute Content-Type has to say what it is"
                ),
            ),
            (
                "timeout: 3",
                good,
                format!(
                    "p.yaml:27: {m}.timeout: unknown key; known here: topic, http, schema, body, attributes\np.yaml:27: {m}: write either topic or http"
                ),
            ),
            (
                "http: { service: aksed, path: /go }",
                good,
                format!("p.yaml:27: {m}.http.service: no service `aksed` is declared; did you mean `asked`?"),
            ),
            (
                "http: { service: asked, path: go }",
                good,
                format!("p.yaml:27: {m}.http.path: `go` is not a path; it has to begin with /"),
            ),
            (
                "topic: grade",
                "              target_date: \"{{ date }}\"\n              correlation_id: \"{{ manifest.cuase }}\"\n              trigger_source: t\n",
                format!(
                    "p.yaml:30: {m}.body.correlation_id: `manifest.cuase` is not known; did you mean `manifest.cause`?"
                ),
            ),
            (
                "topic: grade",
                "              target_date: \"{{ dat }}\"\n              correlation_id: \"{{ 1 + }}\"\n              trigger_source: \"{{ node\"\n",
                format!(
                    "p.yaml:29: {m}.body.target_date: `dat` is not known; did you mean `date`?\n\
                     p.yaml:30: {m}.body.correlation_id: `1 +` cannot be read: unexpected end of input, expected expression\n\
                     p.yaml:31: {m}.body.trigger_source: `{{{{ node` opens a hole with {{{{ and does not close it"
                ),
            ),
            (
                "topic: grade",
                "              target_date: today\n              correlation_id: c\n              trigger_source: t\n",
                format!(
                    r#"p.yaml:29: {m}.body.target_date: for `grade`, breaks grading-trigger: "today" does not match "^\d{{4}}-\d{{2}}-\d{{2}}$""#
                ),
            ),
            (
                "topic: grade",
                "              target_date: \"{{ date }}\"\n              run_aggregation: \"{{ degraded }} \"\n              correlation_id: c\n",
                format!(
                    "p.yaml:28: {m}.body: for `grade`, breaks grading-trigger: \"trigger_source\" is a required property\n\
                     p.yaml:30: {m}.body.run_aggregation: for `grade`, breaks grading-trigger: \"false \" is not of type \"boolean\""
                ),
            ),
            (
                "topic: grade",
                "              target_date: \"{{ date if not degraded else 'never' }}\"\n              correlation_id: c\n              trigger_source: t\n",
                format!(
                    r#"p.yaml:29: {m}.body.target_date: for `grade`, breaks grading-trigger: "never" does not match "^\d{{4}}-\d{{2}}-\d{{2}}$""#
                ),
            ),
            (
                "topic: grade",
                "              target_date: \"{{ date }}\"\n              correlation_id: c\n              trigger_source: t\n              tipoff: {}\n",
                format!("p.yaml:32: {m}.body.tipoff: is reserved; what was decided is written there"),
            ),
        ];
        for (target, body, expected) in table {
            assert_eq!(mistakes(&with(target, body)), expected, "\n{target}\n{body}");
        }
        let schema = |name: &str| mistakes(&with(&format!("topic: grade\n            schema: {name}"), good));
        assert_eq!(schema("grading-trigger"), "");
        assert_eq!(
            schema("phase3-trigger"),
            format!("p.yaml:28: {m}.schema: the topic carries grading-trigger, not phase3-trigger")
        );
        let asked = "http: { service: asked, path: /go }\n            schema: grading-triger";
        assert_eq!(
            mistakes(&with(asked, good)),
            format!(
                "p.yaml:28: {m}.schema: no schema `grading-triger` is known for what is sent; did you mean `grading-trigger`?"
            )
        );
    }

    #[test]
    fn the_head_of_a_pipeline_is_checked_too() {
        let broken = |from: &str, to: &str| {
            assert!(HEAD.contains(from), "{from}");
            mistakes(&format!("{}{SOUND}", HEAD.replacen(from, to, 1)))
        };
        let table = [
            ("version: 1", "version: 2", "p.yaml:1: version: expected 1, found 2"),
            (
                "America/New_York",
                "New York",
                "p.yaml:4: pipelines.nba.zone: `New York` is no time zone; write one as America/New_York",
            ),
            (
                "ahead_max: 2d",
                "ahead_max: 30h",
                "p.yaml:6: pipelines.nba.limits.ahead_max: expected whole days, as in 2d",
            ),
            (
                "stale_after: 5m",
                "stale_after: 100s",
                "p.yaml:9: pipelines.nba.defaults.heartbeat.stale_after: 100s is shorter than 3 heartbeats (3m); a late one would be flagged",
            ),
            (
                "dead_after: 15m",
                "dead_after: 5m",
                "p.yaml:9: pipelines.nba.defaults.heartbeat.dead_after: 5m is not longer than stale_after (5m)",
            ),
            (
                "attempts_max: 3",
                "attempts_max: 0",
                "p.yaml:13: pipelines.nba.defaults.retry.attempts_max: 0 is outside 1 to 4294967295",
            ),
            (
                "backoff_max: 30m",
                "backoff_max: 1m",
                "p.yaml:13: pipelines.nba.defaults.retry: backoff is longer than backoff_max",
            ),
            (
                "rebuild_after: 2m",
                "rebuild_after: soon",
                "p.yaml:14: pipelines.nba.defaults.rebuild_after: `soon` is not a duration; write a whole number and a unit, as in 90s, 10m, 1h or 7d",
            ),
            (
                "17:00",
                "25:00",
                "p.yaml:16: pipelines.nba.cycles[0].from.at: `25:00` is no clock time; write hours and minutes, as in \"17:00\"",
            ),
            ("day: -1", "day: 1", "p.yaml:16: pipelines.nba.cycles[0]: ends before it begins"),
        ];
        for (from, to, expected) in table {
            // A cycle that cannot be read is unknown to nobody here: both nodes are of the other one.
            assert_eq!(broken(from, to), expected, "\n{from} -> {to}");
        }
        // Mistakes of both files are listed in one go.
        let both = load(("t.yaml", "version: 2\n"), ("p.yaml", "version: 2\n")).unwrap_err().to_string();
        assert_eq!(both.lines().count(), 5, "{both}");
    }

    #[test]
    fn an_override_changes_what_it_names_and_nothing_else() {
        let patch = json!({ "pipelines": {
            "mlb": null,
            "nba": {
                "services": { "nba-phase4-precompute-processors": { "url": "http://precompute" } },
                "nodes": { "ml_feature_store": { "needs": { "player_daily_cache": { "coverage_min": 0.5 } } } },
            },
        } });
        let text = with_overrides("pipeline.yaml", PIPELINE, &patch).unwrap();
        let shipped = shipped().unwrap();
        let laid = load(("topics.yaml", TOPICS), ("overridden", &text)).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(laid.pipelines.keys().map(PipelineId::as_str).collect::<Vec<_>>(), ["nba"]);
        let (before, after) = (&shipped.pipelines["nba"], &laid.pipelines["nba"]);
        assert_eq!(after.services["nba-phase4-precompute-processors"].url.as_deref(), Some("http://precompute"));
        assert_ne!(before.graph.revision, after.graph.revision);
        assert_eq!(before.graph.order, after.graph.order);
        assert_eq!(before.graph.cycles, after.graph.cycles);
        for (id, node) in &before.graph.nodes {
            let mut needs = node.needs.clone();
            if id.as_str() == "ml_feature_store" {
                for need in needs.iter_mut().filter(|need| need.node.as_str() == "player_daily_cache") {
                    need.coverage_min = PerMille::new(500).unwrap();
                }
            }
            assert_eq!(after.graph.nodes[id].needs, needs, "{id}");
        }
        let wrong = json!({ "pipelines": { "nba": { "nodes": { "export": { "ned": 1 } } } } });
        let text = with_overrides("pipeline.yaml", PIPELINE, &wrong).unwrap();
        let problems = load(("topics.yaml", TOPICS), ("overridden", &text)).unwrap_err().to_string();
        assert!(problems.ends_with("pipelines.nba.nodes.export.ned: unknown key; known here: kind, same_as, phase, cycle, aliases, files, output, probe, heartbeats, heartbeat, start_within, duration_max, storm, stall, unit, due, records_min, before_tip, alert_before_tip, verify, start_before_tip, empty_days_max, checks, backfill, needs, rebuild_every, rebuild_after, retry, messages"), "{problems}");
    }
}
