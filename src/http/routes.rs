//! A router that knows its routes, so that a test can hold them against what is documented.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{get, post};

use super::App;

/// A router, and the list of what is in it.
#[derive(Debug, Default)]
pub struct Routes {
    router: Router<App>,
    listed: Vec<(Method, &'static str)>,
}

impl Routes {
    /// The same, and `GET path`.
    pub fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.with(Method::GET, path, get(handler))
    }

    /// The same, and `POST path`.
    pub fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.with(Method::POST, path, post(handler))
    }

    fn with(mut self, method: Method, path: &'static str, handler: axum::routing::MethodRouter<App>) -> Self {
        self.listed.push((method, path));
        Self { router: self.router.route(path, handler), listed: self.listed }
    }

    /// Both together.
    pub fn merge(mut self, other: Self) -> Self {
        self.listed.extend(other.listed);
        Self { router: self.router.merge(other.router), listed: self.listed }
    }

    /// The router alone, changed.
    pub fn map(self, change: impl FnOnce(Router<App>) -> Router<App>) -> Self {
        Self { router: change(self.router), listed: self.listed }
    }

    /// What is in it.
    pub fn listed(&self) -> &[(Method, &'static str)] {
        &self.listed
    }

    /// The router.
    pub fn router(self) -> Router<App> {
        self.router
    }
}
