//! The dependency graph of a date with the state of every node. Each is a link to its page; with a script, to why beside the
//! graph.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::Uri;
use maud::{Markup, html};
use serde::Deserialize;

use super::parts::{begins, look, path, plain, state, text};
use super::{Frame, Named, Refresh, Shown, Tab, opened};
use crate::desk::day::{self, Day};
use crate::domain::graph::{Graph, Kind, Node, Offset, Strength};
use crate::domain::id::NodeId;
use crate::domain::view::{self, NodeView};
use crate::http::App;
use crate::http::api::parameters;

const WIDTH: usize = 300;
const HEIGHT: usize = 30;
const ACROSS: usize = 72;
const DOWN: usize = 12;
const MARGIN: usize = 12;
/// Sweeps over the columns that bring neighbours near each other.
const SWEEPS: usize = 6;
/// Characters of a name in its box.
const NAME_SHOWN: usize = 38;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    pass: Option<String>,
}

/// `/ui/{pipeline}/{date}/graph`
pub async fn page(State(app): State<App>, named: Named<(String, String)>, uri: Uri) -> Shown {
    let asked: Parameters = parameters(&uri)?;
    let (frame, date) = opened(&app, named).await?;
    let day = frame.day(date).await?;
    let graph = frame.graph;
    let pass = asked.pass.filter(|name| graph.cycles.iter().any(|cycle| cycle.id.as_str() == name));
    let chosen: Vec<&Node> = graph
        .order
        .iter()
        .filter_map(|id| graph.node(id))
        .filter(|node| pass.as_ref().is_none_or(|pass| node.cycle.as_str() == pass))
        .collect();
    let drawing = Drawing::of(graph, &chosen);
    let link = |pass: &str| frame.of_date(date, &format!("/graph{pass}"));
    let body = html! {
        div class="head" {
            h1 { "Graph " (frame.long(date)) }
            (frame.date_line(date, "/graph"))
        }
        nav class="tabs small" aria-label="Passes" {
            a href=(link("")) aria-current=[pass.is_none().then_some("true")] { "all passes" }
            @for cycle in &graph.cycles {
                @let name = cycle.id.as_str();
                a href=(link(&format!("?pass={}", path(name)))) aria-current=[(pass.as_deref() == Some(name)).then_some("true")] {
                    (text(name, 40))
                }
            }
        }
        p class="legend dim" {
            @for name in ["succeeded", "running", "dispatched", "waiting", "failed", "exhausted", "expired", "skipped"] {
                (state(name)) " "
            }
            "· — hard, - - soft, ··· optional · gates are rounded, sources have a bar"
        }
        div class="scroll" role="region" aria-label="The graph" tabindex="0" { (drawing.draw(&frame, &day)) }
        section aria-labelledby="all" {
            h2 id="all" { "Every node" }
            @for phase in day::phases(graph) {
                @let nodes: Vec<&NodeView> = day.view.nodes.iter().filter(|node| node.phase == phase && chosen.iter().any(|chosen| chosen.id == node.node)).collect();
                @if !nodes.is_empty() {
                    h3 id=(format!("phase-{}", plain(phase, 40))) { (text(phase, 40)) }
                    ul class="chips" {
                        @for node in nodes {
                            li {
                                a class="chip" data-panel="" href=(frame.node(date, &node.node)) {
                                    (state(node.state)) " " span class="id" { (text(node.node.as_str(), 80)) }
                                    @if day::is_held(node) { " " span class="held" { "‖ held" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(frame.page((Tab::Graph, Refresh::Live), (&format!("Graph {date}"), Some(date)), &body))
}

/// Where every node that is connected to another stands.
struct Drawing<'a> {
    nodes: BTreeMap<&'a NodeId, (&'a Node, usize, usize)>,
    edges: Vec<(&'a NodeId, &'a NodeId, Strength)>,
    width: usize,
    height: usize,
}

impl<'a> Drawing<'a> {
    /// Columns by the longest way from a node that needs nothing; within a column, near what each is connected with.
    fn of(graph: &'a Graph, chosen: &[&'a Node]) -> Self {
        let known: BTreeMap<&NodeId, &'a Node> = chosen.iter().map(|node| (&node.id, *node)).collect();
        let edges: Vec<(&NodeId, &NodeId, Strength)> = chosen
            .iter()
            .flat_map(|node| node.needs.iter().filter(|need| need.offset == Offset::Same).map(move |need| (need, node)))
            .filter(|(need, _)| known.contains_key(&need.node))
            .map(|(need, node)| (&need.node, &node.id, need.strength))
            .collect();
        let mut column: BTreeMap<&NodeId, usize> = BTreeMap::new();
        for node in chosen {
            let before = edges.iter().filter(|(_, to, _)| **to == node.id).filter_map(|(from, ..)| column.get(from));
            let at = before.max().map_or(0, |before| before + 1);
            column.insert(&node.id, at);
        }
        // What needs nothing stands just before the first that needs it.
        for node in chosen.iter().rev() {
            let is_first = column.get(&node.id) == Some(&0);
            let next =
                edges.iter().filter(|(from, ..)| **from == node.id).filter_map(|(_, to, _)| column.get(to)).min();
            if let Some(next) = next.filter(|_| is_first) {
                column.insert(&node.id, next.saturating_sub(1));
            }
        }
        let is_connected = |id: &NodeId| edges.iter().any(|(from, to, _)| *from == id || *to == id);
        let mut columns: Vec<Vec<&NodeId>> = Vec::new();
        for node in chosen.iter().filter(|node| is_connected(&node.id)) {
            let at = column.get(&node.id).copied().unwrap_or(0);
            columns.resize(columns.len().max(at + 1), Vec::new());
            columns[at].push(&node.id);
        }
        for sweep in 0..SWEEPS {
            let rank: BTreeMap<&NodeId, f64> = columns
                .iter()
                .flat_map(|column| {
                    let middle = column.len() as f64 / 2.0;
                    column.iter().enumerate().map(move |(row, id)| (*id, row as f64 - middle))
                })
                .collect();
            for column in &mut columns {
                let pull = |id: &&NodeId| {
                    let near = edges.iter().filter_map(|(from, to, _)| match sweep % 2 {
                        0 if *to == *id => rank.get(from),
                        1 if *from == *id => rank.get(to),
                        _ => None,
                    });
                    let near: Vec<f64> = near.copied().collect();
                    if near.is_empty() { rank[*id] } else { near.iter().sum::<f64>() / near.len() as f64 }
                };
                let mut pulled: Vec<(f64, &NodeId)> = column.iter().map(|id| (pull(id), *id)).collect();
                pulled.sort_by(|one, other| one.0.total_cmp(&other.0));
                *column = pulled.into_iter().map(|(_, id)| id).collect();
            }
        }
        let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
        let height = 2 * MARGIN + rows * (HEIGHT + DOWN);
        let width = 2 * MARGIN + columns.len() * (WIDTH + ACROSS) - ACROSS.min(columns.len() * ACROSS);
        let mut nodes = BTreeMap::new();
        for (at, column) in columns.iter().enumerate() {
            let top = (height - column.len() * (HEIGHT + DOWN)) / 2;
            for (row, id) in column.iter().enumerate() {
                if let Some(node) = graph.node(id) {
                    nodes.insert(*id, (node, MARGIN + at * (WIDTH + ACROSS), top + row * (HEIGHT + DOWN)));
                }
            }
        }
        Self { nodes, edges, width, height }
    }

    fn draw(&self, frame: &Frame<'_>, day: &Day) -> Markup {
        let stands = |id: &NodeId| day.node(id);
        let Self { width, height, .. } = self;
        html! {
            svg class="graph" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) role="group" aria-label="Dependencies, from left to right" {
                g class="edges" aria-hidden="true" {
                    @for (from, to, strength) in &self.edges {
                        @if let (Some((_, x1, y1)), Some((_, x2, y2))) = (self.nodes.get(from), self.nodes.get(to)) {
                            path class=(edge_class(stands(from), *strength)) d=(curve((x1 + WIDTH, y1 + HEIGHT / 2), (*x2, y2 + HEIGHT / 2))) {}
                        }
                    }
                }
                @for (id, (node, x, y)) in &self.nodes {
                    @if let Some(found) = stands(id) { (boxed(frame, day, node, found, (*x, *y))) }
                }
            }
        }
    }
}

fn edge_class(from: Option<&NodeView>, strength: Strength) -> &'static str {
    let is_met = from.is_some_and(|from| day::is_done(from) || from.state == "open");
    match (strength, is_met) {
        (Strength::Hard, true) => "edge met",
        (Strength::Hard, false) => "edge",
        (Strength::Soft, true) => "edge soft met",
        (Strength::Soft, false) => "edge soft",
        (Strength::Optional, true) => "edge optional met",
        (Strength::Optional, false) => "edge optional",
    }
}

fn curve((x1, y1): (usize, usize), (x2, y2): (usize, usize)) -> String {
    let bend = (x2.saturating_sub(x1) / 2).clamp(20, 60);
    format!("M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}", x1 + bend, x2.saturating_sub(bend))
}

fn boxed(frame: &Frame<'_>, day: &Day, node: &Node, found: &NodeView, (x, y): (usize, usize)) -> Markup {
    let date = day.partition.key.date;
    let (sign, class) = look(found.state);
    let held = if day::is_held(found) { " held" } else { "" };
    let why = found.blockers.first().map(|blocker| view::brief(blocker, date)).unwrap_or_default();
    let name = plain(node.id.as_str(), 80);
    let label = format!("{name}: {}{held}{}{}", found.state, if why.is_empty() { "" } else { ", " }, plain(&why, 200));
    let radius = if matches!(node.kind, Kind::Gate(_)) { HEIGHT / 2 } else { 4 };
    html! {
        a class=(format!("node {class}{held}")) href=(frame.node(date, &node.id)) data-panel="" aria-label=(label) {
            title { (label) }
            rect x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx=(radius) {}
            @if matches!(node.kind, Kind::Source(_)) { rect class="bar" x=(x) y=(y) width="4" height=(HEIGHT) {} }
            text x=(x + 12) y=(y + HEIGHT / 2 + 5) { tspan class="sign" { (sign) @if day::is_held(found) { "‖" } } " " (begins(node.id.as_str(), NAME_SHOWN)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_stands_left_of_what_needs_it_and_nobody_on_another() {
        let declarations = crate::pipeline::shipped().unwrap();
        for pipeline in declarations.pipelines.values() {
            let graph = &pipeline.graph;
            let all: Vec<&Node> = graph.order.iter().filter_map(|id| graph.node(id)).collect();
            let drawing = Drawing::of(graph, &all);
            assert!(!drawing.nodes.is_empty());
            for (from, to, _) in &drawing.edges {
                assert!(drawing.nodes[from].1 + WIDTH < drawing.nodes[to].1, "{from} and {to}");
            }
            let places: std::collections::BTreeSet<_> = drawing.nodes.values().map(|(_, x, y)| (x, y)).collect();
            assert_eq!(places.len(), drawing.nodes.len(), "two nodes stand in one place");
        }
    }
}
