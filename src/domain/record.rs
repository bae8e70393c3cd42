//! `record`: the one table of (state, event).
//!
//! It takes in what happened and decides nothing about what to send; that is `plan`, which never sees an event. Keeps
//! `success-stays` (no event takes a success away) and `order-free`: a fact's place in time is its publish time, so
//! messages between which no deadline falls may arrive in any order.

use std::sync::Arc;

use jiff::Timestamp;

use super::calendar::{Override, Schedule};
use super::event::{
    Command, Completed, Delivery, EdgeRule, Event, Heartbeat, Outcome, Pulse, Request, RunWord, Scheduled, Served,
    Withheld,
};
use super::evidence::{Claim, Extent};
use super::graph::{Graph, Kind};
use super::id::{Attempt, DispatchId, NodeId, RunId};
use super::partition::{
    CheckTaken, EdgeWord, End, Failure, FailureKind, Hold, LIVE_RUNS_MAX, NOTES_MAX, Node, OVERRIDES_MAX, Partition,
    REQUESTS_MAX, REVISIONS_MAX, Recorded, Run, Starter, State, Way, Wish, Word, end,
};
use super::shadow::NOT_SENT;
use super::time::{SKEW_MAX, after};

/// Why a node is skipped on a date without games.
const NO_GAMES: &str = "no games";

/// The node that an execution is of, by what was published `at`: the one meant, unless the execution is at work for another
/// pass of the same processor, or had not ended there yet. A run that goes on past midnight stays the run it was.
fn holder(graph: &Graph, partition: &Partition, meant: &NodeId, run: &RunId, at: Timestamp) -> NodeId {
    let knows = |id: &NodeId| {
        let facts = partition.nodes.get(id);
        facts.is_some_and(|node| node.runs.contains_key(run) || node.ended.get(run).is_some_and(|ended| at <= ended.at))
    };
    let other = || graph.family(meant).iter().find(|id| knows(id));
    if knows(meant) { meant.clone() } else { other().unwrap_or(meant).clone() }
}

/// Takes one event in.
pub fn record(graph: &Graph, partition: &mut Partition, event: &Event) -> Recorded {
    match event {
        Event::Completed(completed) => match graph.node(&completed.node) {
            Some(node) if matches!(node.kind, Kind::Gate(_)) => Recorded::Rejected,
            Some(_) => {
                let node = holder(graph, partition, &completed.node, &completed.run, completed.published);
                if is_future(partition.node(&node), completed.dispatch.as_ref()) {
                    return Recorded::Future;
                }
                partition.hear(&node, &completed.run, completed.published);
                completion(graph, partition, &Completed { node, ..completed.clone() })
            }
            None => Recorded::Rejected,
        },
        Event::Heartbeat(heartbeat) => match graph.node(&heartbeat.node) {
            Some(node) if matches!(node.kind, Kind::Gate(_)) => Recorded::Rejected,
            Some(node) => {
                let is_task = matches!(node.kind, Kind::Task(_));
                let node = holder(graph, partition, &heartbeat.node, &heartbeat.run, heartbeat.published);
                partition.hear(&node, &heartbeat.run, heartbeat.published);
                pulse(graph, partition, &Heartbeat { node, ..heartbeat.clone() }, is_task)
            }
            None => Recorded::Rejected,
        },
        Event::Observed(observed) => {
            if graph.node(&observed.node).is_none() {
                return Recorded::Rejected;
            }
            let evidence = &mut partition.node_mut(&observed.node).evidence;
            let awaited = evidence.look(observed.at);
            let news = match observed.coverage {
                Some(coverage) => evidence.observe(observed.at, coverage, observed.units.clone()),
                None if observed.not_kept => false,
                None => evidence.leave_unanswered(observed.at),
            };
            applied(news || awaited)
        }
        Event::Checked(checked) => {
            let declared = graph
                .node(&checked.node)
                .is_some_and(|node| node.expects.checks.iter().any(|check| check.id == checked.check));
            if !declared {
                return Recorded::Rejected;
            }
            let checks = &mut partition.node_mut(&checked.node).checks;
            if checks.get(&checked.check).is_some_and(|held| held.at >= checked.at) {
                return Recorded::Superseded;
            }
            checks.insert(checked.check.clone(), CheckTaken { at: checked.at, answer: checked.answer });
            Recorded::Applied
        }
        Event::Scheduled(scheduled) => schedule(graph, partition, scheduled),
        Event::UpstreamSettled(settled) => {
            if graph.node(&settled.node).is_none() {
                return Recorded::Rejected;
            }
            match partition.upstream.get(&settled.node) {
                Some(held) if *held == settled.upstream => Recorded::Duplicate,
                Some(held) if (held.date, held.told_at) > (settled.upstream.date, settled.upstream.told_at) => {
                    Recorded::Superseded
                }
                Some(_) | None => {
                    partition.upstream.insert(settled.node.clone(), settled.upstream.clone());
                    Recorded::Applied
                }
            }
        }
        Event::Requested(request) => self::request(graph, partition, request),
        Event::Served(served) if graph.node(&served.node).is_none() => Recorded::Rejected,
        Event::Served(served) => self::served(partition, served),
        Event::Noted(note) => {
            let room = partition.notes.len() < NOTES_MAX;
            applied(room && partition.notes.insert(note.clone()))
        }
        Event::Delivery(delivery) => match graph.node(&delivery.node) {
            Some(_) => self::delivery(partition, delivery),
            None => Recorded::Rejected,
        },
        Event::Withheld(told) => match graph.node(&told.node) {
            Some(_) => withheld(partition, told),
            None => Recorded::Rejected,
        },
        Event::Foretold(told) => match (graph.node(&told.node), partition.forecast.get(&told.node)) {
            (None, _) => Recorded::Rejected,
            (Some(_), Some(held)) if held.at >= told.at => Recorded::Superseded,
            (Some(_), _) => {
                partition.forecast.insert(told.node.clone(), told.clone());
                Recorded::Applied
            }
        },
        Event::Tick => Recorded::Duplicate,
    }
}

/// Only the attempt that is dispatched at this moment is waited for.
fn delivery(partition: &mut Partition, delivery: &Delivery) -> Recorded {
    let node = partition.nodes.get_mut(&delivery.node);
    let dispatched =
        |node: &&mut Node| node.attempt == delivery.attempt && matches!(node.state, State::Dispatched { .. });
    let Some(node) = node.filter(dispatched) else { return Recorded::Superseded };
    match (&node.way, &delivery.refused) {
        (Some(Way::Refused { .. }), Some(_)) | (None | Some(Way::Taken { .. }), None) => Recorded::Duplicate,
        (_, Some(reason)) => {
            node.way = Some(Way::Refused { since: delivery.at, reason: reason.clone() });
            Recorded::Applied
        }
        (Some(Way::Refused { .. }), None) => {
            node.way = Some(Way::Taken { at: delivery.at });
            Recorded::Applied
        }
    }
}

/// Nobody is asked, so nobody begins because of it. What is there stands, with the inputs that it was decided on as seen, or
/// its dependents would wait for a rebuild that never comes; what is not there waits for whoever runs it.
fn withheld(partition: &mut Partition, told: &Withheld) -> Recorded {
    let Some(node) = partition.nodes.get_mut(&told.node).filter(|node| node.attempt == told.attempt) else {
        return Recorded::Superseded;
    };
    let State::Dispatched { at } = node.state else { return Recorded::Superseded };
    let seen = node.evidence.observation.as_ref().map(|seen| seen.at);
    if node.stands() {
        node.state = node.stood();
    } else if let Some(seen) = seen {
        node.state = State::Succeeded { at: seen };
    } else if matches!(node.way, Some(Way::Refused { .. })) {
        return Recorded::Duplicate;
    } else {
        node.way = Some(Way::Refused { since: told.at, reason: NOT_SENT.into() });
        return Recorded::Applied;
    }
    node.built_from = node.built_from.max(Some(at));
    Recorded::Applied
}

/// The newest reading counts, but one that lists no game takes none away that were known: where the calendar has games, an
/// empty answer is what a failing feed gives.
fn schedule(graph: &Graph, partition: &mut Partition, told: &Scheduled) -> Recorded {
    let had_none = partition.has_no_games(&graph.calendar);
    let may_play = graph.calendar.idle(partition.key.date).is_none();
    match &mut partition.schedule {
        // Read in the other order it comes to the same.
        Some(held) if held.at >= told.at && held.games.is_empty() && !told.games.is_empty() && may_play => {
            held.emptied_at = Some(held.at);
            held.games.clone_from(&told.games);
            return Recorded::Applied;
        }
        Some(held) if held.at >= told.at => return Recorded::Superseded,
        Some(held) if told.games.is_empty() && held.has_games() && may_play => {
            held.emptied_at = held.emptied_at.or(Some(told.at));
            held.at = told.at;
            return Recorded::Applied;
        }
        Some(_) | None => {}
    }
    let same = partition.schedule.as_ref().is_some_and(|held| held.games == told.games && held.emptied_at.is_none());
    partition.schedule = Some(Schedule { at: told.at, games: told.games.clone(), emptied_at: None });
    if had_none && !partition.has_no_games(&graph.calendar) {
        let unneeded = |node: &&mut Node| matches!(&node.state, State::Skipped { reason, .. } if &**reason == NO_GAMES);
        partition.nodes.values_mut().filter(unneeded).for_each(|node| node.state = State::Waiting);
    }
    applied(!same)
}

fn applied(news: bool) -> Recorded {
    if news { Recorded::Applied } else { Recorded::Duplicate }
}

/// Whether what was published then may answer what was asked for at `asked`, by a clock of ours that may be ahead of the
/// broker's.
fn answers(published: Timestamp, asked: Timestamp) -> bool {
    after(published, SKEW_MAX) >= asked
}

/// Whether `dispatch` names an attempt that has not been decided yet.
fn is_future(node: &Node, dispatch: Option<&DispatchId>) -> bool {
    dispatch.and_then(DispatchId::parts).is_some_and(|(_, _, attempt)| attempt > node.attempt)
}

/// What is known of a failure before the completion comes.
const WORDLESS: &str = "the last heartbeat says failed";

fn completion(graph: &Graph, partition: &mut Partition, completed: &Completed) -> Recorded {
    let games = match (partition.has_games(), partition.has_no_games(&graph.calendar)) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    // A task that declines waits for better inputs; a source that does has loaded nothing.
    let waits = graph.node(&completed.node).is_some_and(|node| node.task().is_some());
    let node = partition.node_mut(&completed.node);
    let before = node.ended.get(&completed.run).map(|ended| ended.how);
    let outcome = judge(completed, games);
    match (before, &outcome) {
        (Some(End::Done), Verdict::Output(extent)) => {
            // The same execution may report again with a better figure; the same figure again is a repetition.
            let part = completed.unit.as_ref().is_some_and(|unit| node.evidence.part(unit, completed.published));
            let claim = claim(completed, *extent);
            return applied(node.evidence.claim(claim) || part);
        }
        (Some(End::Done), Verdict::Failure(..) | Verdict::NotRequired) => return Recorded::Superseded,
        (Some(End::Failed), Verdict::Failure(kind, text)) => {
            // The last heartbeat of a run that fails often comes first, and says nothing of why.
            let wordless = node.failure.as_mut().filter(|known| {
                known.run.as_ref() == Some(&completed.run) && &*known.text == WORDLESS && &**text != WORDLESS
            });
            let Some(known) = wordless else { return Recorded::Duplicate };
            (known.kind, known.text) = (*kind, text.clone());
            return Recorded::Applied;
        }
        (Some(End::Failed), Verdict::NotRequired) => return Recorded::Duplicate,
        (Some(End::Fenced), Verdict::Failure(..) | Verdict::NotRequired) => return Recorded::Fenced,
        (Some(End::Superseded), _) => return Recorded::Superseded,
        (Some(End::Failed | End::Fenced) | None, Verdict::Output(_))
        | (None, Verdict::Failure(..) | Verdict::NotRequired) => {}
    }
    // The last execution at work: its end is the end of the attempt, even if a later sign of its life came first.
    let gone = node.runs.remove(&completed.run);
    let sole = gone.is_some() && node.runs.is_empty();
    let ours = |asked: Timestamp| answers(completed.published, asked);
    match outcome {
        Verdict::Output(extent) => {
            end(node, &completed.run, completed.published, End::Done);
            let part = completed.unit.as_ref().is_some_and(|unit| node.evidence.part(unit, completed.published));
            let news = node.evidence.claim(claim(completed, extent)) || part;
            let at = completed.published;
            let gone = |run: &Run| run.ended_unreported && run.first <= at;
            let answered: Vec<RunId> =
                node.runs.iter().filter(|(_, run)| gone(run)).map(|(id, _)| id.clone()).collect();
            for run in answered {
                node.runs.remove(&run);
                end(node, &run, at, End::Done);
            }
            let (state, built_from) = match std::mem::take(&mut node.state) {
                // An attempt of ours is answered by what was published after it; an older run's late success is
                // evidence, and the attempt goes on. So it is with a fenced run while its successor is at work.
                state @ State::Dispatched { at: since } if !ours(since) => (state, at),
                state @ (State::Dispatched { .. } | State::Running { .. }) if before == Some(End::Fenced) => {
                    (state, at)
                }
                State::Dispatched { at: since } => (State::Succeeded { at }, since),
                state @ State::Running { since, .. } if at < since && !sole => (state, at),
                // What we asked for has seen what it was asked on, whichever clock is ahead.
                State::Running { inputs_at, starter: Starter::Us, .. } => (State::Succeeded { at }, inputs_at),
                State::Running { inputs_at, .. } => (State::Succeeded { at }, inputs_at.min(at)),
                State::Succeeded { at: held } => (State::Succeeded { at: held.max(at) }, at),
                State::Waiting
                | State::Failed { .. }
                | State::Exhausted { .. }
                | State::Skipped { .. }
                | State::Expired { .. } => (State::Succeeded { at }, at),
            };
            node.state = state;
            if news {
                node.built_from = Some(built_from);
            }
            if matches!(node.state, State::Succeeded { .. }) {
                node.failure = None;
                if node.attempt == Attempt::default() {
                    node.attempt = Attempt { run: 1, attempt: 1 };
                }
            }
            applied(news)
        }
        Verdict::Failure(kind, text) => {
            end(node, &completed.run, completed.published, End::Failed);
            let at = completed.published;
            let began = gone.map(|run| run.first);
            let failure = Failure { at, run: Some(completed.run.clone()), kind, text, charged: false, began };
            let others_alive = !node.runs.is_empty();
            node.state = match std::mem::take(&mut node.state) {
                State::Dispatched { at: since } if !ours(since) => State::Dispatched { at: since },
                State::Running { since, inputs_at, starter } if others_alive || at < since && !sole => {
                    State::Running { since, inputs_at, starter }
                }
                // Its output stands: a later run that fails takes nothing away, whether its life was heard of or not.
                State::Succeeded { at: held } => {
                    if at > held {
                        node.attempt = next_external(node.attempt, false);
                    }
                    State::Succeeded { at: held }
                }
                State::Running { starter: Starter::Them, .. } if node.stands() => node.stood(),
                state @ (State::Exhausted { .. } | State::Skipped { .. } | State::Expired { .. }) => state,
                // To decline is not to try.
                State::Waiting if kind == FailureKind::Declined && waits => State::Waiting,
                State::Dispatched { .. } => {
                    node.failure = Some(Failure { charged: true, ..failure });
                    State::Failed { at }
                }
                State::Running { starter, .. } => {
                    node.failure = Some(Failure { charged: starter == Starter::Us, ..failure });
                    State::Failed { at }
                }
                // A failure older than the one known is no news.
                State::Failed { at: held } if at < held => State::Failed { at: held },
                State::Waiting | State::Failed { .. } => {
                    if node.attempt == Attempt::default() {
                        node.attempt = Attempt { run: 1, attempt: 1 };
                    }
                    node.failure = Some(failure);
                    State::Failed { at }
                }
            };
            Recorded::Applied
        }
        Verdict::NotRequired => {
            let at = completed.published;
            let others_alive = !node.runs.is_empty();
            end(node, &completed.run, at, End::Done);
            match node.state {
                State::Dispatched { at: since } if !answers(at, since) => Recorded::Superseded,
                State::Running { since, .. } if others_alive || at < since && !sole => Recorded::Superseded,
                State::Waiting | State::Failed { .. } | State::Dispatched { .. } | State::Running { .. } => {
                    node.failure = None;
                    node.state = State::Skipped { at, reason: NO_GAMES.into() };
                    Recorded::Applied
                }
                State::Succeeded { .. } | State::Exhausted { .. } | State::Skipped { .. } | State::Expired { .. } => {
                    Recorded::Superseded
                }
            }
        }
    }
}

/// What a completion amounts to, given whether there are games.
enum Verdict {
    Output(Extent),
    Failure(FailureKind, Arc<str>),
    NotRequired,
}

fn judge(completed: &Completed, games: Option<bool>) -> Verdict {
    match (&completed.outcome, completed.records, games) {
        (Outcome::Done(_), Some(0), Some(true)) => {
            Verdict::Failure(FailureKind::Empty, "success with no rows on a day with games".into())
        }
        (Outcome::Done(_), Some(0), Some(false)) | (Outcome::NoData, _, Some(false)) => Verdict::NotRequired,
        (Outcome::Done(_), Some(0), None) => Verdict::Output(Extent::Unknown),
        (Outcome::Done(extent), _, _) => Verdict::Output(*extent),
        (Outcome::NoData, _, _) => Verdict::Failure(FailureKind::Empty, "no data".into()),
        (Outcome::Failed(text), _, _) => Verdict::Failure(FailureKind::Reported, text.clone()),
        (Outcome::Skipped(text), _, _) => Verdict::Failure(FailureKind::Declined, text.clone()),
    }
}

fn claim(completed: &Completed, extent: Extent) -> Claim {
    Claim {
        run: completed.run.clone(),
        published: completed.published,
        records: completed.records,
        extent,
        correlation: completed.correlation.clone(),
        trace: completed.trace,
    }
}

fn pulse(graph: &Graph, partition: &mut Partition, heartbeat: &Heartbeat, is_task: bool) -> Recorded {
    if heartbeat.pulse == Pulse::Failed {
        return completion(
            graph,
            partition,
            &Completed {
                node: heartbeat.node.clone(),
                run: heartbeat.run.clone(),
                outcome: Outcome::Failed(WORDLESS.into()),
                records: None,
                published: heartbeat.published,
                correlation: None,
                dispatch: None,
                unit: None,
                trace: None,
            },
        );
    }
    let node = partition.node_mut(&heartbeat.node);
    match node.ended.get(&heartbeat.run).map(|ended| ended.how) {
        Some(End::Fenced) => return Recorded::Fenced,
        Some(End::Done | End::Failed | End::Superseded) => return Recorded::Superseded,
        None => {}
    }
    let at = heartbeat.published;
    let ended_unreported = heartbeat.pulse == Pulse::Ended;
    let news = match node.runs.get_mut(&heartbeat.run) {
        Some(run) => {
            let news = at > run.last;
            if news {
                if run.progress != heartbeat.progress {
                    run.progress = heartbeat.progress;
                    run.progressed_at = at;
                }
                run.last = at;
                run.ended_unreported = ended_unreported;
            }
            let earlier = at < run.first;
            run.first = run.first.min(at);
            news || earlier
        }
        None => {
            let answered = node.evidence.claim.as_ref().is_some_and(|claim| claim.published >= at);
            if ended_unreported && answered {
                // A process that reported its result under another name and then said goodbye.
                end(node, &heartbeat.run, at, End::Done);
                return Recorded::Superseded;
            }
            let run = Run {
                first: at,
                last: at,
                progress: heartbeat.progress,
                progressed_at: at,
                ended_unreported,
                closing_at: None,
                word: None,
            };
            node.runs.insert(heartbeat.run.clone(), run);
            if node.runs.len() > LIVE_RUNS_MAX {
                let stalest = node.runs.iter().min_by_key(|(_, run)| run.last).map(|(id, _)| id.clone());
                if let Some(stalest) = stalest {
                    node.runs.remove(&stalest);
                }
            }
            true
        }
    };
    if !news {
        return Recorded::Duplicate;
    }
    let alive = node.runs.values().filter(|run| !run.ended_unreported).count();
    if is_task && alive > 1 {
        node.double_run = true;
    }
    node.state = match std::mem::take(&mut node.state) {
        State::Dispatched { at: since } if answers(at, since) => {
            State::Running { since: at, inputs_at: since, starter: Starter::Us }
        }
        state @ State::Dispatched { .. } => state,
        State::Running { since, inputs_at, starter: Starter::Them } => {
            State::Running { since: since.min(at), inputs_at: inputs_at.min(at), starter: Starter::Them }
        }
        State::Running { since, inputs_at, starter: Starter::Us } if at >= inputs_at => {
            State::Running { since: since.min(at), inputs_at, starter: Starter::Us }
        }
        state @ State::Running { .. } => state,
        // A sign of life older than the last word on the node tells nothing new about it.
        State::Succeeded { at: held } if at <= held => State::Succeeded { at: held },
        State::Failed { at: held } if at <= held => State::Failed { at: held },
        State::Exhausted { at: held } if at <= held => State::Exhausted { at: held },
        State::Skipped { at: held, reason } if at <= held => State::Skipped { at: held, reason },
        State::Expired { at: held } if at <= held => State::Expired { at: held },
        State::Waiting
        | State::Succeeded { .. }
        | State::Failed { .. }
        | State::Exhausted { .. }
        | State::Skipped { .. }
        | State::Expired { .. } => {
            node.attempt = next_external(node.attempt, node.failure.is_some());
            State::Running { since: at, inputs_at: at, starter: Starter::Them }
        }
    };
    Recorded::Applied
}

/// The number of an attempt that somebody else began: the next try of a failed run, or a new run.
fn next_external(held: Attempt, failed: bool) -> Attempt {
    if failed && held.run > 0 {
        Attempt { run: held.run, attempt: held.attempt + 1 }
    } else {
        Attempt { run: held.run + 1, attempt: 1 }
    }
}

/// The operator's stop on the node, or on the whole date, and when one was last ended.
fn stop_of<'a>(
    partition: &'a mut Partition,
    node: Option<&NodeId>,
) -> (&'a mut Option<Hold>, &'a mut Option<Timestamp>) {
    match node {
        Some(node) => {
            let node = partition.node_mut(node);
            (&mut node.hold, &mut node.resumed_at)
        }
        None => (&mut partition.hold, &mut partition.resumed_at),
    }
}

fn request(graph: &Graph, partition: &mut Partition, request: &Request) -> Recorded {
    if partition.requests.contains_key(&request.id) {
        return Recorded::Duplicate;
    }
    let named = match &request.command {
        Command::Hold { node, .. } | Command::Resume { node } => node.as_ref(),
        Command::Retry { node }
        | Command::Backfill { node, .. }
        | Command::Withdraw { node, .. }
        | Command::Execution { node, .. }
        | Command::Skip { node } => Some(node),
        // A gate has inputs like any other node.
        Command::Edge { node, input, rule, .. } => {
            let Some(node) = graph.node(node) else { return Recorded::Rejected };
            let is_input = node.needs.iter().any(|need| need.node.as_str() == &**input);
            let is_check = node.expects.checks.iter().any(|check| check.id.as_str() == &**input);
            if !is_input && (!is_check || *rule == Some(EdgeRule::Hold)) {
                return Recorded::Rejected;
            }
            None
        }
        Command::Override { .. } => None,
    };
    if let Some(node) = named
        && graph.node(node).is_none_or(|node| matches!(node.kind, Kind::Gate(_)))
    {
        return Recorded::Rejected;
    }
    if let Command::Retry { node } | Command::Backfill { node, .. } = &request.command
        && graph.node(node).is_some_and(|node| node.dispatchable().is_none())
    {
        return Recorded::Rejected;
    }
    // Only a run whose progress is watched can be closed, or given more time.
    if let Command::Execution { node, word: RunWord::Finalize | RunWord::Continue, .. } = &request.command
        && graph.node(node).is_some_and(|node| node.liveness.stall.is_none())
    {
        return Recorded::Rejected;
    }
    if partition.requests.len() >= REQUESTS_MAX {
        let oldest = partition.requests.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone());
        if let Some(oldest) = oldest {
            partition.requests.remove(&oldest);
        }
    }
    partition.requests.insert(request.id.clone(), request.at);
    match &request.command {
        Command::Hold { node, until } => {
            let hold =
                Hold { actor: request.actor.clone(), reason: request.reason.clone(), at: request.at, until: *until };
            let (held, resumed_at) = stop_of(partition, node.as_ref());
            let at = Some(hold.at);
            if at < *resumed_at || at < held.as_ref().map(|held| held.at) {
                return Recorded::Superseded;
            }
            *held = Some(hold);
        }
        Command::Resume { node } => {
            let (held, resumed_at) = stop_of(partition, node.as_ref());
            *resumed_at = (*resumed_at).max(Some(request.at));
            let is_earlier = held.as_ref().is_some_and(|held| held.at <= request.at);
            if is_earlier {
                *held = None;
            }
            let skipped = node.as_ref().and_then(|node| partition.nodes.get_mut(node));
            let skipped = skipped.filter(|node| {
                matches!(&node.state, State::Skipped { at, reason } if *at <= request.at && **reason != *NO_GAMES)
            });
            let is_lifted = skipped.is_some();
            if let Some(node) = skipped {
                node.state = State::Waiting;
            }
            // Nothing was held, or somebody has said so since.
            if !is_earlier && !is_lifted {
                return Recorded::Superseded;
            }
        }
        Command::Retry { node } => {
            let node = partition.node_mut(node);
            node.wish = Some(Wish::of(request, None));
        }
        Command::Backfill { node, plan } => {
            let node = partition.node_mut(node);
            // A person's wish is not made less of.
            if node.wish.is_none() {
                node.wish = Some(Wish::of(request, Some(plan.clone())));
            }
        }
        Command::Withdraw { node, plan } => {
            let node = partition.node_mut(node);
            if node.wish.as_ref().and_then(|wish| wish.plan.as_ref()) != Some(plan) {
                return Recorded::Superseded;
            }
            node.wish = None;
        }
        Command::Skip { node } => {
            let node = partition.node_mut(node);
            if matches!(node.state, State::Succeeded { .. }) {
                return Recorded::Superseded;
            }
            node.wish = None;
            node.failure = None;
            let reason = format!("{}, by {}", request.reason, request.actor).into();
            node.state = State::Skipped { at: request.at, reason };
        }
        Command::Edge { node, input, rule, until } => {
            let edges = &mut partition.node_mut(node).edges;
            if edges.get(input).is_some_and(|held| held.by.at > request.at) {
                return Recorded::Superseded;
            }
            let by =
                Hold { actor: request.actor.clone(), reason: request.reason.clone(), at: request.at, until: *until };
            edges.insert(input.clone(), EdgeWord { rule: *rule, by });
        }
        Command::Execution { node, run, word } => {
            let Some(run) = partition.node_mut(node).runs.get_mut(run) else { return Recorded::Superseded };
            if run.word.as_ref().is_some_and(|said| said.at > request.at) {
                return Recorded::Superseded;
            }
            if *word == RunWord::Continue {
                run.progressed_at = run.progressed_at.max(request.at);
            }
            let (actor, reason) = (request.actor.clone(), request.reason.clone());
            run.word = Some(Word { word: *word, actor, reason, at: request.at });
        }
        Command::Override { game, status, tip, until } => {
            let known = Override {
                actor: request.actor.clone(),
                reason: request.reason.clone(),
                at: request.at,
                until: *until,
                status: *status,
                tip: *tip,
            };
            let held = partition.overrides.get(game);
            let room = held.is_some() || partition.overrides.len() < OVERRIDES_MAX;
            if held.is_some_and(|held| held.at > request.at) || !room {
                return Recorded::Superseded;
            }
            // What was said before and is not said anew stands, unless it has expired or been taken back by then.
            let (status, tip) =
                held.filter(|held| held.until > request.at).map_or((None, None), |held| (held.status, held.tip));
            let known = Override { status: known.status.or(status), tip: known.tip.or(tip), ..known };
            partition.overrides.insert(game.clone(), known);
        }
    }
    Recorded::Applied
}

/// Which revision is at work, and when it last was. The latest are kept, whichever is heard of first.
fn served(partition: &mut Partition, served: &Served) -> Recorded {
    let known = partition.served.entry(served.node.clone()).or_default();
    let before = known.clone();
    let at = known.entry(served.revision.clone()).or_insert(served.at);
    *at = (*at).max(served.at);
    while known.len() > REVISIONS_MAX {
        let oldest = known.iter().map(|(revision, at)| (*at, revision.clone())).min();
        if let Some((_, revision)) = oldest {
            known.remove(&revision);
        }
    }
    if *known == before { Recorded::Superseded } else { Recorded::Applied }
}
