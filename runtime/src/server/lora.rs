//! llama.cpp's `/lora-adapters`: which adapters there are, and which of them requests use that name none.
//!
//! An adapter is used with the factor that it was loaded with, or not at all: factors are part of the model.

use std::sync::PoisonError;

use serde_json::{Value, json};

use super::App;
use super::http::Response;
use super::json::parse;
use super::openai::{ApiError, Scaled, scaled_adapters};
use super::prepare::weigh;
use super::routes::Call;
use crate::plan::AdapterSet;
use crate::session::Session;

/// The adapters of requests that name none.
pub(super) fn usual(app: &App) -> AdapterSet {
    *app.adapters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `[{"id", "path", "scale"}, …]`; the path is the adapter's name, the scale what such requests use.
pub(super) fn list(app: &App) -> Response {
    let (session, used) = (&app.session, usual(app));
    let adapters = session.adapters.iter().zip(&session.adapter_scales).enumerate();
    let all: Vec<Value> = adapters
        .map(|(id, (name, &scale))| json!({"id": id, "path": name, "scale": if used.has(id) { scale } else { 0.0 }}))
        .collect();
    Response::json(200, &all.into()).with("Cache-Control", "no-store")
}

/// Sets them: those that the body does not list are not used.
///
/// # Errors
/// 400 naming the entry, for an adapter that is not there and for another factor than it was loaded with.
pub(super) fn choose(app: &App, mut call: Call<'_>) -> Result<Response, ApiError> {
    weigh(&mut call.body)?;
    let body = parse(&call.body.bytes).map_err(|line| ApiError::new(400, line))?;
    let wanted = scaled_adapters("body", body)?;
    let set = set_of(&app.session, "body", &wanted)?;
    *app.adapters.lock().unwrap_or_else(PoisonError::into_inner) = set;
    Ok(Response::json(200, &json!({"success": true})))
}

/// The adapters that a list asks for; `at` is its name in errors.
///
/// # Errors
/// 400 naming the entry's field.
pub(super) fn set_of(session: &Session, at: &str, wanted: &[Scaled]) -> Result<AdapterSet, ApiError> {
    let mut set = AdapterSet::default();
    for (index, Scaled { id, scale }) in wanted.iter().enumerate() {
        let refused = |field: &str, line: String| {
            let here = format!("{at}[{index}].{field}");
            Err(ApiError::parameter(here.clone(), format!("`{here}`: {line}")))
        };
        let Some(loaded) = session.adapter_scales.get(*id) else {
            return refused("id", format!("there is no adapter {id}; {}", there_are(session.adapters.len())));
        };
        if *scale == *loaded {
            set = set.with(AdapterSet::one(*id));
        } else if *scale != 0.0 {
            let line = format!(
                "an adapter is used with the scale that it was loaded with, {loaded}, or with 0; start the server with \
                 --lora FILE={scale} for this one"
            );
            return refused("scale", line);
        }
    }
    Ok(set)
}

fn there_are(adapters: usize) -> String {
    match adapters {
        0 => "this server has none".to_owned(),
        1 => "the only one is 0".to_owned(),
        count => format!("they are 0 to {}", count - 1),
    }
}
