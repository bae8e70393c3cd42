//! What do the rows of a report say?
//!
//! A report is a question to the warehouse about one date whose answer is rows: the schedule, what is predicted of each
//! game, how old each team's roster is. Rows come from a query, from an HTTP call or out of a file, so nothing in them
//! is trusted: what cannot be read is an error that names report, date, row and column, and of such an answer nothing
//! is used. A row that is told twice counts once; two rows that contradict each other are an error.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::value::{self, shown};
use crate::diagnostic::{not_one_of, suggestion};
use crate::domain::event::{Game, GameStatus};
use crate::domain::id::UnitId;
use crate::port::Row;

/// Rows of one answer. A date has fifteen games and a league thirty teams; more is an answer to another question.
pub const ROWS_MAX: usize = 1000;

/// What is reported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The games of the date.
    Schedule,
    /// What is predicted of each game.
    GameCoverage,
    /// The newest roster of each team.
    RosterAges,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Schedule, Self::GameCoverage, Self::RosterAges];

    /// Its name in `pipeline.yaml`, in calls and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::GameCoverage => "game_coverage",
            Self::RosterAges => "roster_ages",
        }
    }

    /// The columns that a row may have; a query has to give all of them.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Schedule => &["game_id", "away", "home", "tip", "status"],
            Self::GameCoverage => &[
                "game_id",
                "away",
                "home",
                "player_count",
                "prediction_count",
                "feature_count",
                "production_ready_count",
            ],
            Self::RosterAges => &["team", "latest_roster", "player_count", "is_playing"],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::as_str);
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| not_one_of(&shown(name, 40), &known))
    }
}

/// Why the rows of a report are not used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// One of them cannot be read.
    #[error("{kind} of {date}, row {row}, {column}: {why}")]
    Cell {
        /// Which report.
        kind: Kind,
        /// The date it is about.
        date: Date,
        /// Counted from one within the date.
        row: usize,
        /// Which column.
        column: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Two of them say different things of the same game or team.
    #[error("{kind} of {date}, row {row}: contradicts an earlier row about {about}")]
    Contradiction {
        /// Which report.
        kind: Kind,
        /// The date it is about.
        date: Date,
        /// The later of the two, counted from one.
        row: usize,
        /// The game or team.
        about: String,
    },
    /// There are more than anybody reads.
    #[error("{kind} of {date}: {rows} rows; at most {ROWS_MAX} are taken")]
    TooMany {
        /// Which report.
        kind: Kind,
        /// The date it is about.
        date: Date,
        /// How many there are.
        rows: usize,
    },
    /// A row of a file does not say which date it is about.
    #[error("row {row}: {why}")]
    Undated {
        /// Counted from one within the file.
        row: usize,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// The games of a date.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GameListing {
    /// By `YYYYMMDD_AWAY_HOME`. Games of the regular season and the play-offs only.
    pub games: BTreeMap<UnitId, Game>,
}

/// What is predicted of one game.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GameCoverage {
    /// The schedule's own id, where it is told.
    pub game_id: Option<String>,
    /// The visitors, by their three letters.
    pub away: String,
    /// The hosts.
    pub home: String,
    /// Players of whom a prediction is shown.
    pub players: u32,
    /// Predictions that are shown.
    pub predictions: u32,
    /// Rows of the feature store.
    pub features: u32,
    /// Those of them that are good enough to be used.
    pub production_ready: u32,
}

/// How new a team's roster is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterAge {
    /// The day of its newest roster, where there is one.
    pub latest: Option<Date>,
    /// Players on its rosters.
    pub players: u32,
    /// Whether it plays on the date.
    pub is_playing: bool,
}

/// Reads a schedule.
///
/// # Errors
/// As every reader here: if a row cannot be read, contradicts another, or there are too many.
pub fn schedule(date: Date, rows: &[Row]) -> Result<GameListing, Error> {
    const STATUSES: [(&str, GameStatus); 5] = [
        ("scheduled", GameStatus::Scheduled),
        ("live", GameStatus::Live),
        ("final", GameStatus::Final),
        ("postponed", GameStatus::Postponed),
        ("moved", GameStatus::Moved),
    ];
    let mut games = BTreeMap::new();
    for cells in cells(Kind::Schedule, date, rows)? {
        let id = cells.game_id()?.ok_or_else(|| cells.error("game_id", "missing"))?;
        let (away, home) = cells.teams()?;
        let word = cells.required("status", cells.text("status")?)?;
        let status = STATUSES.iter().find(|(known, _)| *known == word).map(|(_, status)| *status);
        let status = status
            .ok_or_else(|| cells.error("status", not_one_of(&shown(word, 40), &STATUSES.map(|(known, _)| known))))?;
        let game = Game { tip: cells.instant("tip")?, status, id: Some(UnitId::from(id)) };
        // Exhibitions, the all-star game and the cup's final are no games that anything is worked out for.
        if id.starts_with("002") || id.starts_with("004") {
            let unit = unit(date, away, home);
            cells.keep(&mut games, unit, game)?;
        }
    }
    Ok(GameListing { games })
}

/// Reads what is predicted of each game, by `YYYYMMDD_AWAY_HOME`.
///
/// # Errors
/// See [`schedule`].
pub fn game_coverage(date: Date, rows: &[Row]) -> Result<BTreeMap<UnitId, GameCoverage>, Error> {
    let mut games = BTreeMap::new();
    for cells in cells(Kind::GameCoverage, date, rows)? {
        let (away, home) = cells.teams()?;
        let game = GameCoverage {
            game_id: cells.game_id()?.map(str::to_owned),
            away: away.to_owned(),
            home: home.to_owned(),
            players: cells.required("player_count", cells.count("player_count")?)?,
            predictions: cells.required("prediction_count", cells.count("prediction_count")?)?,
            features: cells.count("feature_count")?.unwrap_or(0),
            production_ready: cells.count("production_ready_count")?.unwrap_or(0),
        };
        cells.keep(&mut games, unit(date, away, home), game)?;
    }
    Ok(games)
}

/// Reads how new each team's roster is.
///
/// # Errors
/// See [`schedule`].
pub fn roster_ages(date: Date, rows: &[Row]) -> Result<BTreeMap<String, RosterAge>, Error> {
    let mut teams = BTreeMap::new();
    for cells in cells(Kind::RosterAges, date, rows)? {
        let team = cells.team("team")?;
        let latest = cells.date("latest_roster")?;
        if latest.is_some_and(|latest| latest > date) {
            return Err(cells.error("latest_roster", "lies after the date asked about"));
        }
        let age = RosterAge {
            latest,
            players: cells.count("player_count")?.unwrap_or(0),
            is_playing: cells.required("is_playing", cells.truth("is_playing")?)?,
        };
        cells.keep(&mut teams, team.to_owned(), age)?;
    }
    Ok(teams)
}

/// Whether the rows can be read as what they are said to be.
///
/// # Errors
/// See [`schedule`].
pub fn check(kind: Kind, date: Date, rows: &[Row]) -> Result<(), Error> {
    match kind {
        Kind::Schedule => schedule(date, rows).map(drop),
        Kind::GameCoverage => game_coverage(date, rows).map(drop),
        Kind::RosterAges => roster_ages(date, rows).map(drop),
    }
}

/// What a column of a recorded file is called here, where it has another name; nothing for one that only repeats what the
/// others say.
fn ours(kind: Kind, column: &str) -> Option<&str> {
    match (kind, column) {
        (_, "players") => Some("player_count"),
        (_, "predictions") => Some("prediction_count"),
        (Kind::Schedule, "tip_utc") => Some("tip"),
        (_, "pred_game_id" | "documented_status" | "tip_utc") => None,
        (_, column) => Some(column),
    }
}

/// The rows of a file by the date that each names in `game_date` or `date`, or else by `otherwise`; columns under the
/// names of recorded files get ours.
///
/// # Errors
/// If a row names no date.
pub fn by_date(kind: Kind, rows: Vec<Row>, otherwise: Option<Date>) -> Result<BTreeMap<Date, Vec<Row>>, Error> {
    let mut dates: BTreeMap<Date, Vec<Row>> = BTreeMap::new();
    for (index, row) in rows.into_iter().enumerate() {
        let undated = |why: String| Error::Undated { row: index + 1, why };
        let named = ["game_date", "date"].into_iter().find_map(|column| row.get(column));
        let date = match named {
            Some(Value::String(text)) => {
                let date = value::date(text);
                date.ok_or_else(|| undated(format!("`{}` is not a date; write YYYY-MM-DD", shown(text, 40))))?
            }
            Some(other) => return Err(undated(format!("{} is not a date; write YYYY-MM-DD", named_kind(other)))),
            None => otherwise.ok_or_else(|| undated("has neither game_date nor date; say --date".to_owned()))?,
        };
        let told = row.into_iter().filter(|(column, _)| column != "game_date" && column != "date");
        let told = told.filter_map(|(column, value)| Some((ours(kind, &column)?.to_owned(), value)));
        dates.entry(date).or_default().push(told.collect());
    }
    Ok(dates)
}

/// The name of a game in every table but the schedule's own.
fn unit(date: Date, away: &str, home: &str) -> UnitId {
    UnitId::new(format!("{:04}{:02}{:02}_{away}_{home}", date.year(), date.month(), date.day()))
}

/// One row, and what an error about it has to name.
#[derive(Clone, Copy)]
struct Cells<'a> {
    kind: Kind,
    date: Date,
    number: usize,
    row: &'a Row,
}

/// The rows one by one; columns that the report does not have are refused, since they are likely to be misspelt.
fn cells(kind: Kind, date: Date, rows: &[Row]) -> Result<impl Iterator<Item = Cells<'_>>, Error> {
    if rows.len() > ROWS_MAX {
        return Err(Error::TooMany { kind, date, rows: rows.len() });
    }
    let all = move || (1..).zip(rows).map(move |(number, row)| Cells { kind, date, number, row });
    for cells in all() {
        if let Some(column) = cells.row.keys().find(|column| !kind.columns().contains(&column.as_str())) {
            let near = suggestion(column, kind.columns().iter().copied());
            return Err(cells.error(&shown(column, 40), format!("{kind} has no such column{near}")));
        }
    }
    Ok(all())
}

impl<'a> Cells<'a> {
    fn error(&self, column: &str, why: impl Into<String>) -> Error {
        Error::Cell { kind: self.kind, date: self.date, row: self.number, column: column.to_owned(), why: why.into() }
    }

    /// What stands in a column; an empty cell of a file is none.
    fn value(&self, column: &str) -> Option<&'a Value> {
        self.row.get(column).filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    fn required<T>(&self, column: &str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| self.error(column, "missing"))
    }

    fn text(&self, column: &str) -> Result<Option<&'a str>, Error> {
        let Some(value) = self.value(column) else { return Ok(None) };
        let text = value.as_str().map(str::trim);
        text.map(Some).ok_or_else(|| self.error(column, format!("expected text, found {}", named_kind(value))))
    }

    /// Reads a text; `expected` says what it should have been.
    fn parsed<T>(
        &self,
        column: &str,
        expected: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        let found = || self.error(column, format!("expected {expected}, found `{}`", shown(text, 40)));
        read(text).map(Some).ok_or_else(found)
    }

    fn count(&self, column: &str) -> Result<Option<u32>, Error> {
        let expected = "a count";
        match self.value(column) {
            Some(Value::Number(number)) => {
                let count = number.as_u64().and_then(|count| u32::try_from(count).ok());
                count.map(Some).ok_or_else(|| self.error(column, format!("expected {expected}, found {number}")))
            }
            _ => self.parsed(column, expected, |text| text.parse().ok()),
        }
    }

    fn truth(&self, column: &str) -> Result<Option<bool>, Error> {
        match self.value(column) {
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            _ => self.parsed(column, "true or false", |text| text.parse().ok()),
        }
    }

    fn date(&self, column: &str) -> Result<Option<Date>, Error> {
        self.parsed(column, "YYYY-MM-DD", value::date)
    }

    fn instant(&self, column: &str) -> Result<Option<Timestamp>, Error> {
        self.parsed(column, "an instant as 2026-01-24T00:10:00Z", |text| text.parse().ok())
    }

    fn game_id(&self) -> Result<Option<&'a str>, Error> {
        let is_id = |text: &str| text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        self.parsed("game_id", "the schedule's ten digits", |text| is_id(text).then_some(text))
    }

    fn team(&self, column: &str) -> Result<&'a str, Error> {
        let is_team = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        let team = self.parsed(column, "a team's three capitals", |text| is_team(text).then_some(text))?;
        self.required(column, team)
    }

    fn teams(&self) -> Result<(&'a str, &'a str), Error> {
        let (away, home) = (self.team("away")?, self.team("home")?);
        if away == home {
            return Err(self.error("home", format!("{home} cannot play against itself")));
        }
        Ok((away, home))
    }

    /// Keeps what the row says, unless an earlier one says it already.
    fn keep<K, V>(&self, kept: &mut BTreeMap<K, V>, key: K, value: V) -> Result<(), Error>
    where
        K: Ord + fmt::Display,
        V: PartialEq,
    {
        if let Some(earlier) = kept.get(&key) {
            if *earlier == value {
                return Ok(());
            }
            let about = key.to_string();
            return Err(Error::Contradiction { kind: self.kind, date: self.date, row: self.number, about });
        }
        kept.insert(key, value);
        Ok(())
    }
}

/// What a value is, in words.
fn named_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use serde_json::json;

    use super::*;

    const DAY: Date = date(2026, 1, 24);

    fn rows(value: Value) -> Vec<Row> {
        value.as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect()
    }

    #[test]
    fn a_schedule_is_by_game_and_a_doubled_row_counts_once() {
        // The exhibition of stars is no game, and a game without an hour is one all the same.
        let tip = "2026-01-25T01:00:00Z";
        let night = json!({ "game_id": "0022500647", "away": "BOS", "home": "CHI", "tip": tip, "status": "scheduled" });
        let moved = json!({ "game_id": "0022500651", "away": "GSW", "home": "MIN", "tip": null, "status": "moved" });
        let stars = json!({ "game_id": "0032500001", "away": "EST", "home": "WST", "status": "final" });
        let listing = schedule(DAY, &rows(json!([night, moved, stars, night]))).unwrap();
        let expected = [
            ("20260124_BOS_CHI", Some("2026-01-25T01:00:00Z"), GameStatus::Scheduled, "0022500647"),
            ("20260124_GSW_MIN", None, GameStatus::Moved, "0022500651"),
        ];
        let expected = expected.map(|(unit, tip, status, id)| {
            (unit.into(), Game { tip: tip.map(|tip| tip.parse().unwrap()), status, id: Some(id.into()) })
        });
        assert_eq!(listing.games, BTreeMap::from(expected));
        assert_eq!(schedule(DAY, &[]).unwrap(), GameListing::default(), "a day off is an answer");
    }

    #[test]
    fn what_cannot_be_read_is_named_by_report_row_and_column() {
        let game = |key: &str, value: Value| {
            let mut game =
                json!({ "game_id": "0022500647", "away": "BOS", "home": "CHI", "status": "live", "tip": null });
            game[key] = value;
            game
        };
        let sound = game("tip", Value::Null);
        let table = [
            (game("game_id", json!("22500647")), "game_id: expected the schedule's ten digits, found `22500647`"),
            (game("game_id", json!(22_500_647)), "game_id: expected text, found a number"),
            (game("away", json!("GS")), "away: expected a team's three capitals, found `GS`"),
            (game("home", json!("BOS")), "home: BOS cannot play against itself"),
            (game("home", Value::Null), "home: missing"),
            (game("status", json!("finall")), "did you mean `final`?"),
            (game("tip", json!("7:30 pm ET")), "tip: expected an instant as 2026-01-24T00:10:00Z, found `7:30 pm ET`"),
            (game("tipp", json!("x")), "tipp: schedule has no such column; did you mean `tip`?"),
            (game("status", json!("final")), "contradicts an earlier row about 20260124_BOS_CHI"),
        ];
        for (row, expected) in table {
            let error = schedule(DAY, &rows(json!([sound, row]))).unwrap_err().to_string();
            assert!(error.starts_with("schedule of 2026-01-24, row 2") && error.contains(expected), "{error}");
        }
        let team = |latest: &str, players: Value| json!([{ "team": "POR", "latest_roster": latest, "player_count": players, "is_playing": true }]);
        let ages = |value| roster_ages(DAY, &rows(value)).map_err(|error| error.to_string());
        assert!(ages(team("2026-01-25", json!(1))).unwrap_err().contains("lies after the date asked about"));
        assert!(ages(team("2026-01-14", json!(-1))).unwrap_err().contains("expected a count, found -1"));
        assert!(ages(team("2026-01-14", json!(1.5))).unwrap_err().contains("expected a count, found 1.5"));
        let many = vec![Row::new(); ROWS_MAX + 1];
        assert!(matches!(game_coverage(DAY, &many), Err(Error::TooMany { .. })));
    }

    #[test]
    fn a_recorded_file_is_read_by_its_own_names_and_date_by_date() {
        // Cells of a file are text, and what is not written there is not known rather than wrong.
        let line = |date: &str, away: &str, players: &str| {
            json!({ "game_date": date, "pred_game_id": "x", "away": away, "home": "UTA", "players": players,
                "predictions": "36", "documented_status": "LOW_COVERAGE" })
        };
        let file = json!([line("2026-01-24", "MIA", "6"), line("20260125", "NYK", "9")]);
        let dates = by_date(Kind::GameCoverage, rows(file), None).unwrap();
        assert_eq!(dates.keys().copied().collect::<Vec<_>>(), [DAY, date(2026, 1, 25)]);
        let games = game_coverage(DAY, &dates[&DAY]).unwrap();
        let heat = &games["20260124_MIA_UTA"];
        assert_eq!((heat.players, heat.predictions, heat.features, &heat.game_id), (6, 36, 0, &None));

        let undated = || rows(json!([{ "team": "POR" }]));
        let refused = by_date(Kind::GameCoverage, undated(), None).unwrap_err().to_string();
        assert_eq!(refused, "row 1: has neither game_date nor date; say --date");
        assert_eq!(by_date(Kind::GameCoverage, undated(), Some(DAY)).unwrap().len(), 1);
        let refused =
            by_date(Kind::GameCoverage, rows(json!([{ "date": "24 January" }])), Some(DAY)).unwrap_err().to_string();
        assert_eq!(refused, "row 1: `24 January` is not a date; write YYYY-MM-DD");
    }
}
