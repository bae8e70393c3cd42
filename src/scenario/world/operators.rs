//! What operators do in a story: they ask, plan, replay and discard.

use jiff::Timestamp;

use super::{RunError, World};
use crate::domain::backfill::{Plan, Said, Status};
use crate::domain::event::Event;
use crate::domain::id::{PartitionKey, PipelineId};
use crate::engine::backfill::Turned;
use crate::engine::dead_letter::{Order, Selection};
use crate::port::StoreError;
use crate::scenario::file::{Backfilling, LettersStep};

impl World<'_> {
    /// An operator replays letters, or discards them.
    pub(super) async fn with_letters(&mut self, asked: LettersStep, at: Timestamp) -> Result<(), RunError> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let order = Order {
            selection: Selection { topic: asked.topic, ..Selection::default() },
            force: asked.force,
            actor: asked.actor.unwrap_or_else(|| "operator".to_owned()),
            reason: Some(asked.reason.clone()),
            with: asked.with.map(|body| body.to_string().into_bytes()),
            ..Order::default()
        };
        let done = match asked.discard {
            true => engine.discard(&order, &asked.reason, true).await,
            false => engine.replay(&order, &mut |_| {}).await,
        };
        match done {
            Ok(outcomes) => {
                for outcome in outcomes {
                    let words =
                        format!("letter {}: {} {}", outcome.id, outcome.verdict.as_str(), outcome.verdict.why());
                    self.world(at, words);
                }
            }
            Err(error) => self.world(at, format!("refused: {error}")),
        }
        Ok(())
    }

    /// An operator plans backfill, or decides on a plan.
    pub(super) async fn operate(&mut self, asked: &Backfilling, at: Timestamp) -> Result<(), RunError> {
        let id = &asked.pipeline;
        let (Some(engine), Some(declared)) = (&self.engine, self.declarations.pipelines.get(id)) else {
            return Ok(());
        };
        let said = Said { at, actor: "operator".into(), text: asked.reason.as_str().into() };
        let done: Result<String, StoreError> = async {
            if let Some(wanted) = &asked.plan {
                let only = (!wanted.nodes.is_empty()).then_some(wanted.nodes.as_slice());
                let span = (wanted.from, wanted.until);
                let survey = engine.survey(id, &declared.graph, span, only, &|_, _| {}).await?;
                let plan = engine.plan_backfill(id, &declared.graph, &survey, wanted.cascade, said.clone()).await?;
                return Ok(format!("{} of {} items", plan.id, plan.items.len()));
            }
            let (name, status) = match (&asked.run, &asked.cancel) {
                (Some(name), _) => (name, Status::Running),
                (None, name) => (name.as_ref().unwrap_or(&asked.reason), Status::Cancelled),
            };
            let Some(plan) = self.plan(id, name).await? else { return Ok(format!("there is no plan {name}")) };
            let turned = engine.turn_plan(id, &plan.id, status, said.clone()).await?;
            let words = if matches!(turned, Turned::Done(_)) { "is now" } else { "cannot be" };
            Ok(format!("{} {words} {status:?}", plan.id))
        }
        .await;
        let words = done.unwrap_or_else(|error| format!("refused: {error}"));
        self.world(at, format!("operator: backfill: {words}"));
        Ok(())
    }

    pub(super) async fn plan(&self, pipeline: &PipelineId, name: &str) -> Result<Option<Plan>, StoreError> {
        let plans = self.store.plans(pipeline).await?.into_iter().map(|(plan, _)| plan);
        let is_meant = |plan: &Plan| plan.id.as_str() == name || name == "latest" && !plan.automatic;
        Ok(plans.into_iter().find(is_meant))
    }

    pub(super) async fn tell(&mut self, key: &PartitionKey, event: Event, at: Timestamp) -> Result<(), RunError> {
        let words = match &event {
            Event::Requested(request) => format!("{} asks: {:?}", request.actor, request.command),
            Event::Scheduled(_) => format!("the schedule of {key} is known"),
            _ => format!("{key} is told what its journal says"),
        };
        self.world(at, words);
        if let Some(engine) = &self.engine
            && let Err(error) = engine.step(key, &[event]).await
        {
            self.world(at, format!("refused: {error}"));
        }
        Ok(())
    }
}
