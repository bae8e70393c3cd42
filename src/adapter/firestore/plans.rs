//! Plans of backfill as documents, each changed under the condition that nobody else has.

use super::Firestore;
use super::document::{Only, instant, integer, json, text, write};
use super::store::{document_id, documents};
use crate::domain::backfill::{Plan, Status};
use crate::domain::id::PipelineId;
use crate::domain::time::after;
use crate::port::{PLANS_MAX, StoreError};

const PLANS: &str = "plans";

impl Firestore {
    pub(super) async fn all_plans(&self, pipeline: &PipelineId) -> Result<Vec<(Plan, u64)>, StoreError> {
        let query = self.db.fluent().select().from(self.collection(PLANS).as_str());
        let found = query.filter(|q| q.for_all([q.field("pipeline").eq(pipeline.as_str())])).query().await;
        let read = |found: &super::document::Read| Ok((found.json("document")?, found.integer("version")?));
        let mut plans: Vec<(Plan, u64)> = documents(found)?.iter().map(read).collect::<Result<_, StoreError>>()?;
        // What runs comes first, so that however many are proposed hide none of it.
        let rank = |plan: &Plan| match plan.status {
            Status::Running => 0,
            Status::Proposed => 1,
            Status::Over | Status::Cancelled => 2,
        };
        plans.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)).then_with(|| (b.made_at, &a.id).cmp(&(a.made_at, &b.id))));
        plans.truncate(PLANS_MAX);
        Ok(plans)
    }

    pub(super) async fn store_plan(&self, plan: &Plan, expected: u64) -> Result<bool, StoreError> {
        let id = document_id(&format!("{}/{}", plan.pipeline, plan.id));
        let name = self.name(PLANS, &id);
        let document = json(plan)?;
        // One that is over goes like the journal that it came to, and so does one that nobody wants.
        let passes = plan.status != Status::Running;
        let expires = after(plan.looked_at.unwrap_or(plan.made_at), self.settings.keep);
        let mut stored = false;
        self.change(PLANS, &id, |found| {
            let version = found.map(|found| found.integer("version")).transpose()?.unwrap_or(0);
            stored = version == expected;
            if !stored {
                return Ok(None);
            }
            let only = found.map_or(Only::IfNew, |found| found.updated().map_or(Only::IfThere, Only::IfUnchanged));
            let fields = vec![
                ("pipeline", text(plan.pipeline.as_str())),
                ("version", integer(expected + 1)),
                ("document", document.clone()),
                ("expire_at", if passes { instant(expires) } else { None }),
            ];
            Ok(Some(write(name.clone(), fields, only)))
        })
        .await?;
        Ok(stored)
    }
}
