//! What a page sends.

use std::time::Duration;

use axum::Form;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::http::BODY_WITHIN;
use crate::http::problem::Problem;

/// The form of a page, once it has come whole.
pub struct Filled<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Filled<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        within(BODY_WITHIN, request, state).await
    }
}

async fn within<T, S>(span: Duration, request: Request, state: &S) -> Result<Filled<T>, Problem>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    match tokio::time::timeout(span, Form::from_request(request, state)).await {
        Ok(Ok(Form(filled))) => Ok(Filled(filled)),
        Ok(Err(error)) => Err(Problem::invalid(error.body_text())),
        Err(_) => Err(Problem::slow()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, StatusCode, header};

    use super::*;

    #[tokio::test]
    async fn a_form_that_never_ends_is_not_waited_for() {
        let asked = |body| {
            let request = Request::builder().method(Method::POST);
            request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body).unwrap()
        };
        let whole = Filled::<Vec<(String, String)>>::from_request(asked(Body::from("a=b")), &()).await;
        assert_eq!(whole.ok().unwrap().0, [("a".to_owned(), "b".to_owned())]);
        let never = Body::from_stream(tokio_stream::pending::<Result<String, std::io::Error>>());
        let refused = within::<Vec<(String, String)>, ()>(Duration::from_millis(50), asked(never), &()).await;
        let refused = refused.err().unwrap();
        assert_eq!(refused.status, StatusCode::REQUEST_TIMEOUT);
    }
}
