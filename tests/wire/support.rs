//! Small graphs built by hand, for tests that must not depend on the shipped declaration.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::civil::time;
use jiff::tz::TimeZone;

use tipoff::domain::graph::{Cycle, DayTime, Graph, Heartbeats, Kind, Limits, Liveness, Node};
use tipoff::domain::id::{NodeId, PipelineId};
use tipoff::topology::{Topology, check};
use tipoff::wire::inbound::{Naming, Routes};

/// The passes of a date, in order.
const CYCLES: [&str; 3] = ["tomorrow", "same_day", "overnight"];

/// Two pipelines and the shipped topics.
pub struct World {
    nba: Graph,
    mlb: Graph,
    topology: Topology,
    naming: [Naming; 2],
}

impl World {
    /// The nodes that the examples of messages name.
    pub fn new() -> Self {
        let nba = graph(
            "nba",
            &[
                ("nbac_gamebook_pdf", "overnight", &["nbac_gamebook_pdf"]),
                ("nbac_team_boxscore", "overnight", &["nbac_team_boxscore"]),
                ("nbac_player_boxscore", "overnight", &["nbac_player_boxscore", "nbac_player_boxscores"]),
                ("oddsa_player_props", "same_day", &["oddsa_player_props"]),
                ("espn_roster", "same_day", &["espn_roster"]),
                ("bdl_injuries", "same_day", &["bdl_injuries", "bdl_injuries_scraper"]),
                (
                    "p2_nbacom_gamebook_pdf",
                    "overnight",
                    &[
                        "NbacGamebookProcessor",
                        "p2_nbacom_gamebook_pdf",
                        "nba_raw.nbac_gamebook_player_stats",
                        "nbac_gamebook_player_stats",
                    ],
                ),
                ("p2_nbacom_team_boxscore", "overnight", &["NbacTeamBoxscoreProcessor", "nba_raw.nbac_team_boxscore"]),
                ("p2_espn_roster", "same_day", &["p2_espn_roster", "nba_raw.espn_team_rosters"]),
                ("player_game_summary", "overnight", &["PlayerGameSummaryProcessor", "player_game_summary"]),
                (
                    "upcoming_player_game_context",
                    "same_day",
                    &["UpcomingPlayerGameContextProcessor", "AsyncUpcomingPlayerGameContextProcessor"],
                ),
                ("player_daily_cache", "same_day", &["PlayerDailyCacheProcessor", "player_daily_cache"]),
                ("player_daily_cache.overnight", "overnight", &["PlayerDailyCacheProcessor", "player_daily_cache"]),
                (
                    "ml_feature_store",
                    "same_day",
                    &["MLFeatureStoreProcessor", "ml_feature_store_v2", "ml_feature_store"],
                ),
                ("predictions", "same_day", &["PredictionCoordinator"]),
                ("export", "same_day", &["Phase6Export"]),
                ("grading", "overnight", &["Phase5BGrading"]),
                ("shared_summary", "overnight", &["SharedSummaryProcessor"]),
            ],
        );
        let mlb = graph(
            "mlb",
            &[
                ("pitcher_game_summary", "overnight", &["MlbPitcherGameSummaryProcessor"]),
                ("shared_summary", "overnight", &["SharedSummaryProcessor"]),
            ],
        );
        let topology = check(include_str!("../../topics.yaml"), "topics.yaml").expect("the shipped topics are sound");
        let naming = |dataset: &str, files: &[(&str, &str)], untracked: &[&str]| Naming {
            datasets: vec![dataset.to_owned()],
            files: files.iter().map(|(place, node)| ((*place).to_owned(), (*node).to_owned())).collect(),
            untracked: untracked.iter().map(|&family| family.to_owned()).collect(),
        };
        let files = [
            ("nba-com/gamebooks-data/", "nbac_gamebook_pdf"),
            ("odds-api/player-props/", "oddsa_player_props"),
            ("espn/rosters/", "espn_roster"),
        ];
        let untracked = ["bdl", "ball-dont-lie/", "kalshi", "nbac_player_movement"];
        Self { nba, mlb, topology, naming: [naming("nba_", &files, &untracked), naming("mlb_", &[], &[])] }
    }

    /// How names find their nodes.
    pub fn routes(&self) -> Routes<'_> {
        let [nba, mlb] = &self.naming;
        let naming = [(&self.nba.pipeline, nba), (&self.mlb.pipeline, mlb)];
        Routes { graphs: vec![&self.nba, &self.mlb], topology: &self.topology, naming: naming.into() }
    }
}

/// A graph of sources in New York's zone: name, pass and aliases of each.
fn graph(pipeline: &str, declared: &[(&str, &str, &[&str])]) -> Graph {
    let mut nodes = BTreeMap::new();
    let mut aliases: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
    for (id, cycle, names) in declared {
        let node = Node {
            id: NodeId::from(*id),
            phase: "raw".to_owned(),
            cycle: (*cycle).into(),
            needs: Vec::new(),
            probed: false,
            liveness: Liveness {
                heartbeats: Heartbeats::Sent,
                stale_after: SignedDuration::from_mins(5),
                dead_after: SignedDuration::from_mins(15),
                start_within: SignedDuration::from_mins(10),
                duration_max: SignedDuration::from_hours(1),
                stall: None,
                storm: None,
            },
            kind: Kind::Source(None),
            expects: tipoff::domain::graph::Expects::default(),
        };
        nodes.insert(node.id.clone(), node);
        for name in *names {
            aliases.entry(name.to_ascii_lowercase()).or_default().push(NodeId::from(*id));
        }
    }
    let order = nodes.keys().cloned().collect();
    let cycles = CYCLES.iter().map(|id| Cycle {
        id: (*id).into(),
        from: DayTime { days: -1, time: time(0, 0, 0, 0) },
        until: DayTime { days: 2, time: time(0, 0, 0, 0) },
    });
    let limits = Limits { ahead_max: 3, behind_max: 60, observe_every: SignedDuration::from_mins(10) };
    let zone = TimeZone::get("America/New_York").expect("the zone is bundled");
    Graph::new(PipelineId::from(pipeline), 1, zone, nodes, order, cycles.collect(), aliases, limits)
}
