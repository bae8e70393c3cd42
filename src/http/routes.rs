//! A router that knows its routes and who may call each, so that the guard can ask, and a test can hold them against what
//! is documented.

use std::collections::HashMap;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodRouter, get, post};

use super::App;
use crate::configuration::Role;

/// Who may call a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Everybody, strangers included: it tells them nothing, and who they are is not looked at.
    Nobody,
    /// Everybody, strangers included, who are told a word; more is told to whom we know.
    Anybody,
    /// Whoever may push.
    Pusher,
    /// Whoever asks a monitor: a scheduler, which is a producer, or whoever may read.
    Asker,
    /// Whose role covers this one.
    Role(Role),
}

impl Needs {
    /// Whether somebody of that role may call.
    #[must_use]
    pub const fn are_met_by(self, role: Role) -> bool {
        match self {
            Self::Nobody | Self::Anybody => true,
            Self::Pusher => role.covers(Role::Producer),
            Self::Asker => role.covers(Role::Producer) || role.covers(Role::Viewer),
            Self::Role(needed) => role.covers(needed),
        }
    }
}

/// One route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// How it is called.
    pub method: Method,
    /// Its path, with names for what varies.
    pub path: &'static str,
    /// Who may call it.
    pub needs: Needs,
}

/// A router, and the list of what is in it.
#[derive(Debug)]
pub struct Routes {
    router: Router<App>,
    listed: Vec<Route>,
    needs: Needs,
}

impl Routes {
    /// None yet; for those that come now one needs `needs`.
    #[must_use]
    pub fn of(needs: Needs) -> Self {
        Self { router: Router::new(), listed: Vec::new(), needs }
    }

    /// The same, and `GET path`.
    pub fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.with(Method::GET, path, get(handler))
    }

    /// The same, and `POST path`.
    pub fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.with(Method::POST, path, post(handler))
    }

    fn with(mut self, method: Method, path: &'static str, handler: MethodRouter<App>) -> Self {
        self.listed.push(Route { method, path, needs: self.needs });
        Self { router: self.router.route(path, handler), ..self }
    }

    /// Both together.
    pub fn merge(mut self, other: Self) -> Self {
        self.listed.extend(other.listed);
        Self { router: self.router.merge(other.router), ..self }
    }

    /// The router alone, changed.
    pub fn map(self, change: impl FnOnce(Router<App>) -> Router<App>) -> Self {
        Self { router: change(self.router), ..self }
    }

    /// What is in it.
    pub fn listed(&self) -> &[Route] {
        &self.listed
    }

    /// The router, and who may call what of it.
    pub fn parts(self) -> (Router<App>, Table) {
        let mut table = Table::default();
        for Route { method, path, needs } in self.listed {
            table.0.entry(path).or_default().push((method, needs));
        }
        (self.router, table)
    }
}

/// Who may call what.
#[derive(Clone, Default, Debug)]
pub struct Table(HashMap<&'static str, Vec<(Method, Needs)>>);

impl Table {
    /// Who may call the route that was matched, if one was; nothing is known of what is no route.
    #[must_use]
    pub fn needs(&self, method: &Method, path: Option<&str>) -> Option<Needs> {
        // What is asked for by HEAD is answered as by GET.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.0.get(path?)?.iter().find(|(routed, _)| routed == method).map(|(_, needs)| *needs)
    }
}
