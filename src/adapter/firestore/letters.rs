//! Dead letters as documents: what is known of each in one, what each of its versions says in others.

use gcloud_sdk::google::firestore::v1::Write;
use gcloud_sdk::google::firestore::v1::write::Operation;

use super::Firestore;
use super::document::instant;
use super::document::{Only, Read, boolean, bytes, integer, json, text, write};
use super::store::{documents, is_refusal, limited, unavailable};
use crate::domain::dead_letter::{Letter, Stage};
use crate::domain::id::LetterId;
use crate::domain::time::after;
use crate::port::{Letters, StoreError, place};
use crate::wire::envelope::Content;

const LETTERS: &str = "letters";
const CONTENTS: &str = "letter_contents";
/// Letters deleted in one commit, with what they say.
const DELETED_MAX: usize = 40;

fn content_id(id: &LetterId, version: usize) -> String {
    format!("{id}~{version}")
}

impl Firestore {
    pub(super) async fn read_letter(&self, id: &LetterId) -> Result<Option<(Letter, u64)>, StoreError> {
        self.get(LETTERS, id.as_str()).await?.as_ref().map(of_document).transpose()
    }

    pub(super) async fn read_content(&self, id: &LetterId, version: usize) -> Result<Option<Content>, StoreError> {
        let Some(found) = self.get(CONTENTS, &content_id(id, version)).await? else { return Ok(None) };
        Ok(Some((found.bytes("data")?.to_vec(), found.json("attributes")?)))
    }

    pub(super) async fn page_of_letters(
        &self,
        which: Letters,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Letter, u64)>, StoreError> {
        let query = self.db.fluent().select().from(self.collection(LETTERS).as_str());
        let found = query
            .filter(|q| {
                let which = match which {
                    Letters::Open => q.field("open").eq(true),
                    Letters::Asked => q.field("asked").eq(true),
                    Letters::All => None,
                };
                q.for_all([which, after.and_then(|after| q.field("place").less_than(after))])
            })
            .order(|o| o.fields([o.field("place").desc()]))
            .limit(limited(limit))
            .query()
            .await;
        let mut letters = Vec::new();
        for found in documents(found)? {
            match of_document(&found) {
                Ok(letter) => letters.push(letter),
                // One that is damaged keeps the others from nobody.
                Err(error) => tracing::error!("{error}"),
            }
        }
        Ok(letters)
    }

    pub(super) async fn store_letter(
        &self,
        letter: &Letter,
        expected: u64,
        content: Option<Content>,
    ) -> Result<bool, StoreError> {
        let only = if expected == 0 {
            Only::IfNew
        } else {
            match self.get(LETTERS, letter.id.as_str()).await? {
                Some(found) if found.integer("version")? == expected => {
                    found.updated().map_or(Only::IfThere, Only::IfUnchanged)
                }
                Some(_) | None => return Ok(false),
            }
        };
        let stage = letter.stage();
        // What is settled goes after a while, with all that it says; what is opened again stays.
        let expires = letter.settled_at().and_then(|at| instant(after(at, self.settings.keep)));
        let fields = vec![
            ("version", integer(expected + 1)),
            ("place", text(&place(letter))),
            ("open", boolean(stage.is_open())),
            ("asked", boolean(stage == Stage::Asked)),
            ("topic", letter.topic.as_deref().and_then(text)),
            ("letter", json(letter)?),
            ("expire_at", expires.clone()),
        ];
        let mut writes = vec![write(self.name(LETTERS, letter.id.as_str()), fields, only)];
        let name = |version| self.name(CONTENTS, &content_id(&letter.id, version));
        let known = letter.versions.len() - usize::from(content.is_some());
        let is_opened_again = !letter.replays.is_empty() || letter.again_at.is_some();
        let changes_end = expected > 0 && !stage.is_open() || stage == Stage::Waiting && is_opened_again;
        if changes_end {
            writes.extend(
                (0..known).map(|version| write(name(version), vec![("expire_at", expires.clone())], Only::Always)),
            );
        }
        if let Some((data, attributes)) = content {
            let fields = vec![("data", bytes(data)), ("attributes", json(&attributes)?), ("expire_at", expires)];
            writes.push(write(name(letter.latest()), fields, Only::Always));
        }
        match self.apply(writes).await {
            Ok(_) => Ok(true),
            Err(status) if is_refusal(&status) => Ok(false),
            Err(status) => Err(unavailable(status)),
        }
    }

    pub(super) async fn trim(&self, most: usize) -> Result<usize, StoreError> {
        let mut count = self.count_letters().await?;
        while count > most {
            let query = self.db.fluent().select().from(self.collection(LETTERS).as_str());
            let found = query
                .filter(|q| q.for_all([q.field("open").eq(false)]))
                .order(|o| o.fields([o.field("place").asc()]))
                .limit(limited(DELETED_MAX.min(count - most)))
                .query()
                .await;
            let found = documents(found)?;
            if found.is_empty() {
                break;
            }
            let delete = |name: String| Write { operation: Some(Operation::Delete(name)), ..Write::default() };
            let mut writes = Vec::new();
            for found in &found {
                let (letter, _) = of_document(found)?;
                writes.push(delete(self.name(LETTERS, found.id())));
                let contents = (0..letter.versions.len()).map(|version| content_id(&letter.id, version));
                writes.extend(contents.map(|id| delete(self.name(CONTENTS, &id))));
            }
            self.apply(writes).await.map_err(unavailable)?;
            count = count.saturating_sub(found.len());
        }
        Ok(count)
    }

    async fn count_letters(&self) -> Result<usize, StoreError> {
        let query = self.db.fluent().select().from(self.collection(LETTERS).as_str());
        let found = query.aggregate(|a| a.fields([a.field("count").count()])).query().await;
        match documents(found)?.first() {
            Some(found) => Ok(usize::try_from(found.integer("count")?).unwrap_or(usize::MAX)),
            None => Ok(0),
        }
    }
}

fn of_document(found: &Read) -> Result<(Letter, u64), StoreError> {
    Ok((found.json("letter")?, found.integer("version")?))
}
