//! `/api/docs`: the interface for people, drawn from the same table as all else. No outside scripts.

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};

const PAGE: &str = include_str!("../assets/docs.html");
const SCRIPT: &str = include_str!("../assets/docs.js");
const STYLE: &str = include_str!("../assets/docs.css");

/// The page.
pub async fn page() -> Html<&'static str> {
    Html(PAGE)
}

/// Its script and style.
pub async fn file(Path(file): Path<String>) -> Response {
    match file.as_str() {
        "docs.js" => ([(header::CONTENT_TYPE, "text/javascript")], SCRIPT).into_response(),
        "docs.css" => ([(header::CONTENT_TYPE, "text/css")], STYLE).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
