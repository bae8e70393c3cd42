//! Dead letters as rows: what is known of each in one table, what each of its versions says in another.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::store::{integer, rows_max};
use super::text::{checksum, corrupt, get, instant, json, read_json};
use crate::domain::dead_letter::{Letter, Stage};
use crate::domain::id::LetterId;
use crate::port::{Letters, StoreError, place};
use crate::wire::envelope::Content;

/// A place is the instant and the name, so that places sort as the letters do.
pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS letters (
  id         TEXT PRIMARY KEY,
  version    INTEGER NOT NULL,
  place      TEXT NOT NULL UNIQUE,
  is_open    INTEGER NOT NULL,
  is_asked   INTEGER NOT NULL,
  settled_at TEXT,
  letter     TEXT NOT NULL,
  checksum   TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS letters_open ON letters (place) WHERE is_open;
CREATE INDEX IF NOT EXISTS letters_asked ON letters (place) WHERE is_asked;
CREATE INDEX IF NOT EXISTS letters_settled ON letters (settled_at) WHERE settled_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS letter_contents (
  letter     TEXT NOT NULL REFERENCES letters (id) ON DELETE CASCADE,
  version    INTEGER NOT NULL,
  data       BLOB NOT NULL,
  attributes TEXT NOT NULL,
  PRIMARY KEY (letter, version)
);";

pub(super) fn read(db: &Connection, id: &LetterId) -> Result<Option<(Letter, u64)>, StoreError> {
    let mut query = db.prepare_cached("SELECT * FROM letters WHERE id = ?1")?;
    let mut rows = query.query([id.as_str()])?;
    rows.next()?.map(of_row).transpose()
}

fn of_row(row: &Row<'_>) -> Result<(Letter, u64), StoreError> {
    let id: String = get(row, "id", "a letter")?;
    let what = format!("letters/{id}");
    let (version, text): (i64, String) = (get(row, "version", &what)?, get(row, "letter", &what)?);
    if get::<String>(row, "checksum", &what)? != sum(&id, version, &text) {
        return Err(corrupt(&what, "its checksum does not match".into()));
    }
    Ok((read_json(&text, &what)?, version.unsigned_abs()))
}

pub(super) fn content(db: &Connection, id: &LetterId, version: usize) -> Result<Option<Content>, StoreError> {
    let found: Option<(Vec<u8>, String)> = db
        .prepare_cached("SELECT data, attributes FROM letter_contents WHERE letter = ?1 AND version = ?2")?
        .query_row(params![id.as_str(), rows_max(version)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    found.map(|(data, attributes)| Ok((data, read_json(&attributes, &format!("letters/{id}/{version}"))?))).transpose()
}

pub(super) fn page(
    db: &Connection,
    which: Letters,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(Letter, u64)>, StoreError> {
    let which = match which {
        Letters::Open => "is_open",
        Letters::Asked => "is_asked",
        Letters::All => "1",
    };
    let sql =
        format!("SELECT * FROM letters WHERE {which} AND (?1 IS NULL OR place < ?1) ORDER BY place DESC LIMIT ?2");
    let mut query = db.prepare_cached(&sql)?;
    let mut rows = query.query(params![after, rows_max(limit)])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        match of_row(row) {
            Ok(letter) => letters.push(letter),
            // One that is damaged keeps the others from nobody.
            Err(error) => tracing::error!("{error}"),
        }
    }
    Ok(letters)
}

/// A letter as it is stored.
pub(super) struct Written {
    letter: Letter,
    expected: i64,
    text: String,
    content: Option<(Vec<u8>, String)>,
}

impl Written {
    pub(super) fn of(letter: &Letter, expected: u64, content: Option<Content>) -> Result<Self, StoreError> {
        let content = content.map(|(data, attributes)| Ok::<_, StoreError>((data, json(&attributes)?))).transpose()?;
        Ok(Self { letter: letter.clone(), expected: integer(expected), text: json(letter)?, content })
    }

    /// Whether it was stored.
    pub(super) fn store(&self, db: &Connection) -> Result<bool, StoreError> {
        let sql = if self.expected == 0 {
            "INSERT INTO letters (id, version, place, is_open, is_asked, settled_at, letter, checksum)
             VALUES (?1, ?2 + 1, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING"
        } else {
            "UPDATE letters SET version = ?2 + 1, place = ?3, is_open = ?4, is_asked = ?5, settled_at = ?6, letter = ?7,
               checksum = ?8 WHERE id = ?1 AND version = ?2"
        };
        let (id, stage) = (self.letter.id.as_str(), self.letter.stage());
        let stored = db.prepare_cached(sql)?.execute(params![
            id,
            self.expected,
            place(&self.letter),
            stage.is_open(),
            stage == Stage::Asked,
            self.letter.settled_at().map(instant),
            self.text,
            sum(id, self.expected + 1, &self.text),
        ])?;
        if stored == 1
            && let Some((data, attributes)) = &self.content
        {
            db.prepare_cached(
                "INSERT OR REPLACE INTO letter_contents (letter, version, data, attributes) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![id, rows_max(self.letter.latest()), data, attributes])?;
        }
        Ok(stored == 1)
    }
}

pub(super) fn trim(db: &Connection, most: usize) -> Result<usize, StoreError> {
    let count = || db.prepare_cached("SELECT count(*) FROM letters")?.query_row([], |row| row.get::<_, i64>(0));
    let over = count()? - rows_max(most);
    if over > 0 {
        db.prepare_cached(
            "DELETE FROM letters WHERE id IN
               (SELECT id FROM letters WHERE settled_at IS NOT NULL ORDER BY settled_at LIMIT ?1)",
        )?
        .execute([over])?;
    }
    Ok(usize::try_from(count()?).unwrap_or(0))
}

/// Deletes letters that were settled before an instant. How many.
pub(super) fn prune(db: &Connection, before: &str) -> Result<usize, StoreError> {
    Ok(db.prepare_cached("DELETE FROM letters WHERE settled_at < ?1")?.execute([before])?)
}

fn sum(id: &str, version: i64, text: &str) -> String {
    checksum(&[id, &version.to_string(), text])
}
