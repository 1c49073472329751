//! The two web applications, from inside the binary. Files with a hash in their name never change; pages are always asked for anew.

use axum::{
    Router,
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use rust_embed::RustEmbed;

// Rust builds without Node: the folder may be missing.
#[derive(RustEmbed)]
#[folder = "../../ui/dist"]
#[allow_missing = true]
struct Files;

const NOT_BUILT: &str = "<!doctype html><title>Steelyard</title><h1>The web interface is not built</h1><p>Run <code>make ui</code> (Node 20 or newer), then build again. The REST interface works without it: <a href=\"/api/docs\">/api/docs</a>.";

/// Routes of both applications.
pub fn router() -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/portal/") }))
        .route("/portal", get(|| async { Redirect::permanent("/portal/") }))
        .route("/admin", get(|| async { Redirect::permanent("/admin/") }))
        .route("/portal/", get(|| async { page("portal") }))
        .route("/admin/", get(|| async { page("admin") }))
        .route("/portal/{*path}", get(|Path(path): Path<String>| async move { file_or_page("portal", &path) }))
        .route("/admin/{*path}", get(|Path(path): Path<String>| async move { file_or_page("admin", &path) }))
        .route(
            "/assets/{*path}",
            get(|Path(path): Path<String>| async move {
                file(&format!("assets/{path}")).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
            }),
        )
}

fn file(path: &str) -> Option<Response> {
    let found = Files::get(path)?;
    let mut response =
        ([(header::CONTENT_TYPE, found.metadata.mimetype().to_owned())], found.data.into_owned()).into_response();
    let cache = if path.contains("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    Some(response)
}

/// A page of the application: its routes are the browser's.
fn page(application: &str) -> Response {
    file(&format!("{application}/index.html")).unwrap_or_else(|| Html(NOT_BUILT).into_response())
}

fn file_or_page(application: &str, path: &str) -> Response {
    file(&format!("{application}/{path}")).unwrap_or_else(|| page(application))
}
