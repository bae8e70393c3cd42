//! Fills what is missing of dates that are over, plan by plan, within the limits of the pipeline.
//!
//! A round reads what has come of what was asked for, asks for more where there is room, and from time to time looks for what
//! recent dates lack. It keeps nothing between two rounds but the plans in the store, and the dates themselves say what was
//! asked: a crash anywhere is mended by the next round. Asking is a request like an operator's, so everything that stops a
//! dispatch stops these.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use tokio::task::JoinSet;

use super::Engine;
use super::step::StepError;
use crate::domain::backfill::{
    self, Draft, ITEMS_MAX, Item, ItemState, Limits, Plan, Said, Status, Survey, draft, estimate, is_filled, judge,
    outputs, request_id, settle, wants_answer,
};
use crate::domain::decide::decide;
use crate::domain::effect::{Alert, Effect, Severity, Turn};
use crate::domain::event::{CheckAnswer, Command, Event, Observed, Request};
use crate::domain::graph::{Graph, Kind};
use crate::domain::id::{AlertKey, CheckId, NodeId, PartitionKey, PipelineId, PlanId, RequestId};
use crate::domain::partition::Partition;
use crate::domain::time::{Now, after};
use crate::domain::timetable::Timetable;
use crate::domain::view;
use crate::port::{Answer, Reported, StoreError, Stored};
use crate::wire::report;

/// How often a round is made. What an operator approves begins within it, and the ends of runs are seen.
pub const BACKFILL_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// The plan that the service fills by itself.
pub const AUTOMATIC: &str = "automatic";
/// Which replica fills.
const LEASE: &str = "backfill";
/// For how long: longer than the time between two rounds.
const LEASE_FOR: SignedDuration = SignedDuration::from_mins(5);
/// Items that one round tries to ask for. Each costs a look at its date, and perhaps at the warehouse.
const TRIES_MAX: usize = 32;
/// Plans that run at once.
const RUNNING_MAX: usize = 16;
/// Questions to the warehouse at once.
const QUESTIONS_MAX: usize = 8;
/// How long an answer of the warehouse holds by which nothing is missing.
const ANSWERS_FOR: SignedDuration = SignedDuration::from_hours(6);
/// Dates whose answers are remembered; a look at recent dates has eight of each pipeline.
const ANSWERED_MAX: usize = 64;
/// Who asks.
const ACTOR: &str = "backfill";

/// How far a look is: dates looked at, and dates in all.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Send + Sync);

/// What an approval, or an end, of a plan came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turned {
    /// It is so now.
    Done(Box<Plan>),
    /// It was so already, or is over.
    Not(Status),
    /// So many run already.
    Crowded(usize),
    /// There is no such plan.
    Unknown,
}

impl Engine {
    /// One round over every pipeline. Returns how many items were asked for.
    ///
    /// # Errors
    /// If the store cannot be used; the next round starts over.
    pub async fn backfill(&self) -> Result<usize, StepError> {
        let now = self.clock.now();
        if self.watch.refusal().is_some() || !self.store.lease(LEASE, now, after(now, LEASE_FOR)).await? {
            return Ok(0);
        }
        let mut asked = 0;
        for (id, pipeline) in &self.declarations.pipelines {
            asked += self.backfill_of(id, &pipeline.graph, now).await?;
        }
        Ok(asked)
    }

    async fn backfill_of(&self, id: &PipelineId, graph: &Graph, now: Timestamp) -> Result<usize, StepError> {
        let mut plans = self.store.plans(id).await?;
        self.look_at_recent(id, graph, &mut plans, now).await?;
        // What readers wait for goes first, then what was approved first.
        plans.retain(|(plan, _)| plan.status == Status::Running);
        plans.sort_by_key(|(plan, _)| (!plan.automatic, plan.made_at, plan.id.clone()));
        let mut busy = 0;
        for (plan, version) in &mut plans {
            busy += self.settle_asked(graph, plan, version, now).await?;
        }
        let limits = &graph.backfill.limits;
        let mut asked = 0;
        if limits.is_active(&graph.zone, now) {
            let mut tries = TRIES_MAX;
            for (plan, version) in &mut plans {
                let most = usize::try_from(limits.at_once).unwrap_or(usize::MAX);
                let room = most.saturating_sub(busy);
                let taken = self.ask_for(graph, (plan, version), room, &mut tries, now).await?;
                (busy, asked) = (busy + taken, asked + taken);
            }
        }
        for (plan, version) in &mut plans {
            self.conclude(graph, plan, version, now).await?;
        }
        Ok(asked)
    }

    /// Reads what has come of what was asked for. Returns how much of it has not ended.
    async fn settle_asked(
        &self,
        graph: &Graph,
        plan: &mut Plan,
        version: &mut u64,
        now: Timestamp,
    ) -> Result<usize, StepError> {
        let before = plan.clone();
        let mut partitions: BTreeMap<Date, Arc<Partition>> = BTreeMap::new();
        let mut busy = 0;
        for index in 0..plan.items.len() {
            let item = &plan.items[index];
            let rests = matches!(item.state, ItemState::Resting { .. }) && item.attempts > 0;
            if !matches!(item.state, ItemState::Asked { .. }) && !rests {
                continue;
            }
            let date = item.date;
            let partition = match partitions.entry(date) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let key = PartitionKey { pipeline: plan.pipeline.clone(), date };
                    new.insert(self.store.load(&key).await?.partition)
                }
            };
            settle(graph, plan, index, partition, now);
            busy += usize::from(matches!(plan.items[index].state, ItemState::Asked { .. }));
        }
        plan.drop_followers(graph, now);
        self.keep_plan(&before, plan, version).await?;
        Ok(busy)
    }

    /// Asks for what may be asked for now, up to `room` items. Each is noted before the next is asked for, so that never more
    /// are under way than may be.
    async fn ask_for(
        &self,
        graph: &Graph,
        (plan, version): (&mut Plan, &mut u64),
        room: usize,
        tries: &mut usize,
        now: Timestamp,
    ) -> Result<usize, StepError> {
        let mut asked = 0;
        for index in backfill::next(graph, plan, now) {
            if asked >= room || *tries == 0 {
                break;
            }
            *tries -= 1;
            let before = plan.clone();
            self.ask(graph, plan, index, now).await?;
            asked += usize::from(matches!(plan.items[index].state, ItemState::Asked { .. }));
            if !self.keep_plan(&before, plan, version).await? {
                // Somebody changed the plan: the next round reads it anew. Who ended it could not know of this item.
                let plans = self.store.plans(&plan.pipeline).await?;
                if plans.iter().any(|(now, _)| now.id == plan.id && now.status == Status::Cancelled) {
                    self.withdraw(plan, &plan.items[index]).await?;
                }
                break;
            }
        }
        Ok(asked)
    }

    /// Asks for one item, unless what it is to bring has come, or something stands in its way.
    async fn ask(&self, graph: &Graph, plan: &mut Plan, index: usize, now: Timestamp) -> Result<(), StepError> {
        let item = plan.items[index].clone();
        let key = PartitionKey { pipeline: plan.pipeline.clone(), date: item.date };
        let mut partition = self.store.load(&key).await?.partition;
        // What was asked for before a crash is found at work.
        plan.items[index].state = ItemState::Waiting;
        settle(graph, plan, index, &partition, now);
        if plan.items[index].state != ItemState::Waiting {
            return Ok(());
        }
        let fills = item.fills.iter().filter(|node| graph.node(node).is_some_and(|node| node.probed));
        self.observe(&key, &fills.cloned().collect::<Vec<_>>(), now).await?;
        partition = self.store.load(&key).await?.partition;
        if is_filled(graph, &partition, &plan.items[index]) {
            plan.items[index].state = ItemState::Done { at: now };
            return Ok(());
        }
        let request = Request {
            id: request_id(plan, &plan.items[index]),
            actor: ACTOR.into(),
            reason: format!("plan {}", plan.id).into(),
            at: now,
            command: Command::Backfill { node: item.node.clone(), plan: plan.id.clone() },
        };
        let event = Event::Requested(request);
        let mut why = self.obstacle(graph, &partition, &item.node, &event)?;
        if let Err(Obstacle { questions, .. }) = &why
            && !questions.is_empty()
        {
            for (date, nodes) in &questions.outputs {
                let key = PartitionKey { pipeline: key.pipeline.clone(), date: *date };
                self.observe(&key, nodes, now).await?;
            }
            for (node, check) in &questions.checks {
                let checked = self.checked(&key, node, check, now).await;
                self.step(&key, &[Event::Checked(checked)]).await?;
            }
            partition = self.store.load(&key).await?.partition;
            why = self.obstacle(graph, &partition, &item.node, &event)?;
        }
        plan.items[index].state = match why {
            Ok(()) => {
                self.step(&key, &[event]).await?;
                tracing::info!(plan = %plan.id, node = %item.node, partition = %key, "asked for");
                ItemState::Asked { at: now }
            }
            Err(Obstacle { words, .. }) => {
                let until = after(now, graph.limits.observe_every);
                ItemState::Resting { until, why: Some(words.into()) }
            }
        };
        Ok(())
    }

    /// Whether `event` would have `node` dispatched at once. Nothing is stored.
    fn obstacle(
        &self,
        graph: &Graph,
        partition: &Partition,
        node: &NodeId,
        event: &Event,
    ) -> Result<Result<(), Obstacle>, StepError> {
        let decision = decide(graph, partition, std::slice::from_ref(event), self.now())?;
        let is_dispatch = |effect: &Effect| matches!(effect, Effect::Dispatch(dispatch) if dispatch.node == *node);
        if decision.effects.iter().any(is_dispatch) {
            return Ok(Ok(()));
        }
        let mut questions = Questions::default();
        for effect in &decision.effects {
            match effect {
                Effect::Observe { date, node } => questions.outputs.entry(*date).or_default().push(node.clone()),
                // Other nodes of the date have questions of their own, which the plan does not wait for.
                Effect::Check { node: asks, check } if asks == node => {
                    questions.checks.push((node.clone(), check.clone()));
                }
                _ => {}
            }
        }
        let view = view::view(graph, &decision.next, self.now());
        let found = view.nodes.iter().find(|found| found.node == *node);
        let first = found.and_then(|found| found.blockers.first());
        let words = first.map_or("it is at work already".to_owned(), |first| view::brief(first, partition.key.date));
        Ok(Err(Obstacle { words, questions }))
    }

    /// Has the warehouse say how much of the outputs of a date is there, and tells the date.
    async fn observe(&self, key: &PartitionKey, nodes: &[NodeId], now: Timestamp) -> Result<(), StepError> {
        let mut events = Vec::with_capacity(nodes.len());
        for node in nodes {
            let (coverage, units) = match self.warehouse.coverage(&key.pipeline, node, key.date, now).await {
                Answer::Known { coverage, units } => (Some(coverage), units),
                Answer::Unknown(_) => (None, BTreeMap::new()),
                Answer::NotKept => continue,
            };
            let observed = Observed { node: node.clone(), coverage, not_kept: false, units, at: now, actor: None };
            events.push(Event::Observed(observed));
        }
        if !events.is_empty() {
            self.step(key, &events).await?;
        }
        Ok(())
    }

    /// Ends a plan in which nothing is left to do. The automatic one goes on for ever.
    async fn conclude(
        &self,
        graph: &Graph,
        plan: &mut Plan,
        version: &mut u64,
        now: Timestamp,
    ) -> Result<(), StepError> {
        plan.drop_followers(graph, now);
        if plan.automatic || !plan.is_settled() {
            return Ok(());
        }
        let before = plan.clone();
        let tally = plan.tally();
        plan.status = Status::Over;
        let text = format!("{} done, {} given up", tally.done, tally.failed);
        plan.say(Said { at: now, actor: ACTOR.into(), text: text.into() });
        self.keep_plan(&before, plan, version).await?;
        Ok(())
    }

    /// Stores a plan that has changed. False where somebody else was faster: what was done is seen in the dates.
    async fn keep_plan(&self, before: &Plan, plan: &Plan, version: &mut u64) -> Result<bool, StoreError> {
        if before == plan {
            return Ok(true);
        }
        let kept = self.suspect(self.store.put_plan(plan, *version).await)?;
        *version += u64::from(kept);
        if !kept {
            tracing::info!(plan = %plan.id, "somebody else changed the plan; it is read anew");
        }
        Ok(kept)
    }

    /// Looks for what recent dates lack, where that is due: what is missing goes into the automatic plan, a source that is
    /// down is told of, and what one missed that has recovered is proposed as a plan.
    async fn look_at_recent(
        &self,
        id: &PipelineId,
        graph: &Graph,
        plans: &mut Vec<(Plan, u64)>,
        now: Timestamp,
    ) -> Result<(), StepError> {
        let limits = &graph.backfill.limits;
        let held = plans.iter().position(|(plan, _)| plan.automatic);
        let looked_at = held.and_then(|at| plans[at].0.looked_at);
        if looked_at.is_some_and(|at| now < after(at, limits.every)) {
            return Ok(());
        }
        let today = graph.date_at(now);
        let oldest = today.saturating_sub(limits.automatic_within.days());
        let mut survey = self.survey(id, graph, (oldest, today), None, &|_, _| {}).await?;
        let on = match self.bus.alerts().await {
            Ok(alerts) => alerts,
            Err(error) => {
                tracing::warn!("read the alerts that are on: {error}");
                return Ok(());
            }
        };
        let is_suspect = self.doubt(id, &survey, limits, (&on, now)).await;
        let (mut plan, mut version) = match held {
            Some(at) => plans.swap_remove(at),
            None => (self.automatic(id, now), 0),
        };
        let before = plan.clone();
        if !is_suspect {
            let draft = draft(graph, &survey.missing(), &survey.game_days, false);
            plan.take_in(graph, draft, oldest);
            plan.streaks.iter().for_each(|(node, days)| survey.recall(node, days));
            self.look_further_back(id, graph, &mut survey, oldest).await?;
            plan.streaks = survey.streaks();
            self.tell_of_sources(graph, &survey, (&on, now)).await;
            let known: Vec<&Plan> = plans.iter().map(|(plan, _)| plan).collect();
            if let Some(proposed) = self.proposal(id, graph, &survey, &known, now).await?
                && self.suspect(self.store.put_plan(&proposed, 0).await)?
            {
                self.tell_of_proposal(&proposed, Turn::Raised, now).await;
                plans.push((proposed, 1));
            }
        }
        plan.looked_at = Some(now);
        self.keep_plan(&before, &plan, &mut version).await?;
        plans.push((plan, version));
        Ok(())
    }

    fn automatic(&self, id: &PipelineId, now: Timestamp) -> Plan {
        let text = "what recent dates lack, as it is found".into();
        let said = Said { at: now, actor: ACTOR.into(), text };
        let plan = Plan::new(AUTOMATIC.into(), id.clone(), now, Draft::default(), said);
        Plan { automatic: true, status: Status::Running, ..plan }
    }

    /// A look that finds nearly everything missing has probably a wrong premise. Nothing follows from it, and people are told.
    async fn doubt(&self, id: &PipelineId, survey: &Survey, limits: &Limits, (on, now): (&[Alert], Timestamp)) -> bool {
        let is_suspect = survey.is_suspect(limits);
        let (missing, known) = survey.counts();
        let text = if is_suspect {
            format!(
                "{missing} of {known} outputs of recent dates seem to be missing, which is probably wrong; nothing is asked for \
                 by itself, see `tipoff gaps`"
            )
        } else {
            format!("{missing} of {known} outputs of recent dates are missing")
        };
        self.turn(format!("sweep-suspect:{id}"), Severity::Critical, is_suspect, text, (on, now)).await;
        is_suspect
    }

    /// Follows what has been missing since before the oldest date that is looked at, back to where it began.
    async fn look_further_back(
        &self,
        id: &PipelineId,
        graph: &Graph,
        survey: &mut Survey,
        oldest: Date,
    ) -> Result<(), StepError> {
        // What was followed back before is not followed again.
        let known_further: BTreeMap<NodeId, Date> = survey
            .found
            .iter()
            .filter_map(|(node, found)| Some((node.clone(), *found.keys().next()?)))
            .filter(|(_, first)| *first < oldest)
            .collect();
        // One that may have begun before the first date that is known of it.
        let first = |survey: &Survey, node: &NodeId| {
            let known = survey.found.get(node)?.keys().next().copied()?;
            (survey.running(node).first() == Some(&known) && !known_further.contains_key(node)).then_some(known)
        };
        let mut open: BTreeSet<NodeId> =
            survey.found.keys().filter(|node| first(survey, node).is_some()).cloned().collect();
        let mut date = oldest;
        // A season at most: the calendar has no game days before it.
        for _ in 0..graph.limits.behind_max {
            if open.is_empty() {
                break;
            }
            date = date.saturating_sub(1.day());
            if graph.calendar.idle(date) == Some("off season") {
                break;
            }
            let wanted: Vec<NodeId> = open.iter().cloned().collect();
            let older = self.survey(id, graph, (date, date), Some(&wanted), &|_, _| {}).await?;
            survey.game_days.extend(older.game_days.iter().copied());
            for node in wanted {
                let Some(found) = older.found.get(&node) else {
                    // A day off interrupts nothing; a game day of which nothing is known does.
                    if !older.game_days.is_empty() || !older.unknown_days.is_empty() {
                        open.remove(&node);
                    }
                    continue;
                };
                survey.found.entry(node.clone()).or_default().extend(found.iter().map(|(date, found)| (*date, *found)));
                if first(survey, &node) != Some(date) {
                    open.remove(&node);
                }
            }
        }
        Ok(())
    }

    /// One alert for each source that is down, with how many days.
    async fn tell_of_sources(&self, graph: &Graph, survey: &Survey, (on, now): (&[Alert], Timestamp)) {
        let down = survey.down(graph);
        for node in graph.nodes.values().filter(|node| matches!(node.kind, Kind::Source(_))) {
            let days = down.get(&node.id);
            let text = match days.and_then(|days| Some((days.first()?, days.len()))) {
                Some((first, days)) => format!(
                    "{} has brought nothing, or too little, on {days} game days in a row, since {first}",
                    node.id
                ),
                None => format!("{} is back", node.id),
            };
            let key = format!("source-down:{}", node.id);
            self.turn(key, Severity::Critical, days.is_some(), text, (on, now)).await;
        }
    }

    /// A plan for what sources missed that have recovered, unless one for it is known.
    async fn proposal(
        &self,
        id: &PipelineId,
        graph: &Graph,
        survey: &Survey,
        known: &[&Plan],
        now: Timestamp,
    ) -> Result<Option<Plan>, StoreError> {
        let missed = survey.recovered(graph);
        let days: BTreeSet<Date> = missed.values().flatten().copied().collect();
        let (Some(first), Some(last)) = (days.first(), days.last()) else { return Ok(None) };
        let draft = draft(graph, &missed, &survey.game_days, false);
        let name = PlanId::new(format!("recovered-{first}-{last}"));
        // Whoever has a plan for these dates needs no other, whatever has become of it.
        let covered = known
            .iter()
            .any(|plan| !plan.automatic && (plan.id == name || draft.items.iter().all(|item| plan.covers(item))));
        if covered || draft.items.is_empty() {
            return Ok(None);
        }
        let nodes: Vec<&str> = missed.keys().map(NodeId::as_str).collect();
        let text = format!("{} work again after {} game days without", nodes.join(", "), days.len());
        let said = Said { at: now, actor: ACTOR.into(), text: text.into() };
        let mut plan = Plan::new(name, id.clone(), now, draft, said);
        plan.estimate = estimate(graph, &plan.items, &self.history(graph, id, graph.date_at(now)).await?);
        Ok(Some(plan))
    }

    async fn tell_of_proposal(&self, plan: &Plan, turn: Turn, now: Timestamp) {
        let tally = plan.tally();
        let text = match turn {
            Turn::Raised => format!(
                "{} outputs can be made again: see `tipoff backfill status {}`, and start it with `tipoff backfill run {}`",
                tally.all, plan.id, plan.id
            ),
            Turn::Resolved => format!("{} is decided on", plan.id),
        };
        let key = AlertKey::new(format!("backfill-proposed:{}/{}", plan.pipeline, plan.id));
        self.alert(Alert::new(key, Severity::Info, turn, text, now)).await;
    }

    /// Raises what holds, and resolves what was on and does not hold any more.
    async fn turn(&self, key: String, severity: Severity, holds: bool, text: String, (on, now): (&[Alert], Timestamp)) {
        let key = AlertKey::new(key);
        let on = on.iter().find(|alert| alert.key == key);
        let turn = if holds { Turn::Raised } else { Turn::Resolved };
        let is_news = on.map_or(holds, |on| !holds || on.text != text);
        if is_news {
            self.alert(Alert::new(key, severity, turn, text, now)).await;
        }
    }

    /// What is missing of the dates from the first to the last of `span`: of the outputs given, or of all. `progress` is told
    /// of every date.
    ///
    /// # Errors
    /// If the store cannot be read. What the warehouse cannot tell is unknown, and no error.
    pub async fn survey(
        &self,
        id: &PipelineId,
        graph: &Graph,
        (from, until): (Date, Date),
        only: Option<&[NodeId]>,
        progress: Progress<'_>,
    ) -> Result<Survey, StoreError> {
        let now = Now::caught_up(self.clock.now());
        let mut survey = Survey::default();
        let dates: Vec<Date> =
            from.series(1.day()).take_while(|date| *date <= until.min(graph.date_at(now.at))).collect();
        for (nth, date) in dates.iter().enumerate() {
            progress(nth, dates.len());
            let key = PartitionKey { pipeline: id.clone(), date: *date };
            let Stored { partition, version, .. } = self.store.load(&key).await?;
            match self.is_game_day(graph, &partition, now.at).await {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    survey.unknown_days.insert(*date);
                    continue;
                }
            }
            survey.game_days.insert(*date);
            let wanted = |id: &NodeId| only.is_none_or(|only| only.contains(id));
            let nodes: Vec<_> = outputs(graph).filter(|node| wanted(&node.id)).collect();
            let times = Timetable::of(graph, &partition);
            let asked = nodes.iter().filter(|node| wants_answer(&times, &partition, node, now));
            let asked: Vec<NodeId> = asked.map(|node| node.id.clone()).collect();
            let answers = self.answers(&key, version, &asked, now.at).await;
            for node in nodes {
                if let Some(found) = judge(&times, &partition, node, answers.get(&node.id).copied(), now) {
                    survey.found.entry(node.id.clone()).or_default().insert(*date, found);
                }
            }
        }
        progress(dates.len(), dates.len());
        Ok(survey)
    }

    /// What the warehouse says of outputs of one date, so many questions at once.
    async fn answers(
        &self,
        key: &PartitionKey,
        version: u64,
        nodes: &[NodeId],
        at: Timestamp,
    ) -> BTreeMap<NodeId, CheckAnswer> {
        let mut answers = self.answers.of(key, version, at);
        let open: Vec<&NodeId> = nodes.iter().filter(|node| !answers.contains_key(*node)).collect();
        for some in open.chunks(QUESTIONS_MAX) {
            let mut asking = JoinSet::new();
            for node in some {
                let (warehouse, pipeline, node) = (self.warehouse.clone(), key.pipeline.clone(), (*node).clone());
                let date = key.date;
                asking.spawn(async move { (warehouse.coverage(&pipeline, &node, date, at).await, node) });
            }
            for (answer, node) in asking.join_all().await {
                let answer = match answer {
                    Answer::Known { coverage, .. } => CheckAnswer::Share(coverage),
                    Answer::NotKept => CheckAnswer::NotKept,
                    Answer::Unknown(_) => CheckAnswer::Unknown,
                };
                answers.insert(node, answer);
            }
        }
        if !open.is_empty() {
            self.answers.keep(key, version, at, &answers);
        }
        answers
    }

    /// Whether games were played on a date. Nothing where neither the date nor the warehouse can tell.
    async fn is_game_day(&self, graph: &Graph, partition: &Partition, at: Timestamp) -> Option<bool> {
        let key = &partition.key;
        if partition.schedule.is_some() || graph.calendar.idle(key.date).is_some() {
            return Some(!partition.has_no_games(&graph.calendar));
        }
        match self.warehouse.report(&key.pipeline, report::Kind::Schedule, key.date, at).await {
            Reported::Rows(rows) => {
                let listing = report::schedule(key.date, &rows).ok()?;
                Some(listing.games.values().any(|game| game.status.is_played()))
            }
            Reported::NotKept | Reported::Unknown(_) => None,
        }
    }

    /// Makes a plan for what a look found, and keeps it. It waits for approval.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn plan_backfill(
        &self,
        id: &PipelineId,
        graph: &Graph,
        survey: &Survey,
        cascade: bool,
        said: Said,
    ) -> Result<Plan, StoreError> {
        let mut draft = draft(graph, &survey.missing(), &survey.game_days, cascade);
        draft.items.truncate(ITEMS_MAX);
        let name = PlanId::new(format!("plan-{}", said.at.strftime("%Y%m%d-%H%M%S")));
        let at = said.at;
        let mut plan = Plan { cascade, ..Plan::new(name, id.clone(), at, draft, said) };
        plan.estimate = estimate(graph, &plan.items, &self.history(graph, id, graph.date_at(at)).await?);
        // Who looks again finds the same proposal.
        let asks_the_same = |known: &Plan| {
            let wanted = |plan: &Plan| plan.items.iter().map(|item| (item.date, item.node.clone())).collect::<Vec<_>>();
            known.status == Status::Proposed && known.cascade == cascade && wanted(known) == wanted(&plan)
        };
        if let Some((known, _)) = self.store.plans(id).await?.into_iter().find(|(known, _)| asks_the_same(known)) {
            return Ok(known);
        }
        for suffix in 2.. {
            if plan.items.is_empty() || self.store.put_plan(&plan, 0).await? {
                break;
            }
            plan.id = PlanId::new(format!("plan-{}-{suffix}", at.strftime("%Y%m%d-%H%M%S")));
        }
        Ok(plan)
    }

    /// Takes back what a plan has asked a date for, unless that has been sent.
    async fn withdraw(&self, plan: &Plan, item: &Item) -> Result<(), StoreError> {
        let key = PartitionKey { pipeline: plan.pipeline.clone(), date: item.date };
        let partition = self.store.load(&key).await?.partition;
        let wished = partition.node(&item.node).wish.as_ref().and_then(|wish| wish.plan.clone());
        if wished.as_ref() != Some(&plan.id) {
            return Ok(());
        }
        let request = Request {
            id: RequestId::new(format!("{}/{}/{}/withdrawn", plan.id, item.node, item.date)),
            actor: plan.said.last().map_or_else(|| ACTOR.into(), |said| said.actor.clone()),
            reason: format!("{} was ended", plan.id).into(),
            at: self.clock.now(),
            command: Command::Withdraw { node: item.node.clone(), plan: plan.id.clone() },
        };
        match self.step(&key, &[Event::Requested(request)]).await {
            Ok(_) => Ok(()),
            Err(StepError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    /// Starts a plan, or ends it, for the reason given.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn turn_plan(
        &self,
        id: &PipelineId,
        plan: &PlanId,
        status: Status,
        said: Said,
    ) -> Result<Turned, StoreError> {
        for _ in 0..self.settings.conflicts_max {
            let plans = self.store.plans(id).await?;
            let running = plans.iter().filter(|(known, _)| known.status == Status::Running && !known.automatic).count();
            let Some((mut plan, version)) = plans.into_iter().find(|(known, _)| known.id == *plan) else {
                return Ok(Turned::Unknown);
            };
            let may = match status {
                Status::Running => plan.status == Status::Proposed,
                Status::Cancelled => matches!(plan.status, Status::Proposed | Status::Running) && !plan.automatic,
                Status::Proposed | Status::Over => false,
            };
            if !may {
                return Ok(Turned::Not(plan.status));
            }
            if status == Status::Running && running >= RUNNING_MAX {
                return Ok(Turned::Crowded(running));
            }
            plan.status = status;
            plan.say(said.clone());
            if self.store.put_plan(&plan, version).await? {
                self.tell_of_proposal(&plan, Turn::Resolved, said.at).await;
                if status == Status::Cancelled {
                    for item in plan.items.iter().filter(|item| !item.state.is_settled()) {
                        self.withdraw(&plan, item).await?;
                    }
                }
                return Ok(Turned::Done(Box::new(plan)));
            }
        }
        Err(StoreError::Unavailable(format!("others keep changing the plan {plan}")))
    }
}

/// What the warehouse said of dates about which nothing has been decided since. It is asked again where something is missing,
/// and after some hours in any case.
#[derive(Debug, Default)]
pub struct Answers(Mutex<BTreeMap<PartitionKey, Answered>>);

#[derive(Debug)]
struct Answered {
    version: u64,
    at: Timestamp,
    answers: BTreeMap<NodeId, CheckAnswer>,
}

impl Answers {
    fn of(&self, key: &PartitionKey, version: u64, at: Timestamp) -> BTreeMap<NodeId, CheckAnswer> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.get(key).filter(|held| held.version == version && at < after(held.at, ANSWERS_FOR));
        held.map(|held| held.answers.clone()).unwrap_or_default()
    }

    fn keep(&self, key: &PartitionKey, version: u64, at: Timestamp, answers: &BTreeMap<NodeId, CheckAnswer>) {
        let is_whole = |answer: &CheckAnswer| match answer {
            CheckAnswer::Share(coverage) => coverage.is_full(),
            CheckAnswer::NotKept => true,
            CheckAnswer::Unknown => false,
        };
        let whole = answers.iter().filter(|(_, answer)| is_whole(answer)).map(|(node, answer)| (node.clone(), *answer));
        let answered = Answered { version, at, answers: whole.collect() };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(key.clone(), answered);
        while held.len() > ANSWERED_MAX {
            held.pop_first();
        }
    }
}

/// Why an item is not asked for, and what the warehouse would have to say first.
struct Obstacle {
    words: String,
    questions: Questions,
}

/// What the warehouse is to be asked.
#[derive(Default)]
struct Questions {
    /// How much of these outputs is there.
    outputs: BTreeMap<Date, Vec<NodeId>>,
    /// What these checks of the date's nodes say.
    checks: Vec<(NodeId, CheckId)>,
}

impl Questions {
    fn is_empty(&self) -> bool {
        self.outputs.is_empty() && self.checks.is_empty()
    }
}
