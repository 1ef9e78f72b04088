//! Server-sent events: where the watermarks are, and what became of the tokens that a client has named.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use forelog::{Engine, Outcome, Token};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::reply::Refused;

/// The most tokens that one client may ask about.
const TOKENS: usize = 64;
/// The watermarks are told no more often: a page draws them.
const PAUSE: Duration = Duration::from_millis(20);

/// Changes whenever the durable LSN moves, and now and then.
pub(crate) type Status = watch::Receiver<()>;

/// Follows the durable LSN by its descriptor.
pub(crate) fn follow(engine: &Engine) -> Result<Status, Box<dyn std::error::Error>> {
    let durable = forelog_programs::async_fd(engine.durable_fd()?)?;
    let (tell, status) = watch::channel(());
    tokio::spawn(async move {
        loop {
            // Also without a move: what is at risk grows older, and visible moves by itself.
            if let Ok(Ok(mut ready)) = tokio::time::timeout(10 * PAUSE, durable.readable()).await {
                ready.clear_ready();
            }
            let is_over = durable.get_ref().take().is_err();
            if tell.send(()).is_err() || is_over {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(status)
}

fn status(engine: &Engine) -> Event {
    let at_risk = engine.at_risk();
    let told = json!({
        "visible": engine.visible_lsn(),
        "durable": engine.durable_lsn(),
        "at_risk": { "commits": at_risk.commits, "bytes": at_risk.bytes, "age_ms": at_risk.age.as_millis() },
        "poisoned": engine.poisoned().is_some(),
    });
    Event::default().event("status").data(told.to_string())
}

/// The tokens of a query such as `token=A&token=B`.
fn tokens(query: Option<String>) -> forelog::Result<Vec<Token>> {
    let query = query.unwrap_or_default();
    let named = query.split('&').filter_map(|pair| pair.strip_prefix("token="));
    named.take(TOKENS).map(str::parse).collect()
}

pub(crate) async fn events(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let mut waiting = tokens(query)?;
    let (send, receive) = mpsc::channel::<Result<Event, Infallible>>(16);
    let (engine, mut changed) = (app.bank.engine().clone(), app.status.clone());
    tokio::spawn(async move {
        loop {
            let mut told = vec![status(&engine)];
            waiting.retain(|token| match engine.outcome(token) {
                Ok(Outcome::Pending) => true,
                outcome => {
                    let outcome = outcome.map_or_else(|error| error.to_string(), |outcome| outcome.to_string());
                    let data = json!({ "token": token, "outcome": outcome }).to_string();
                    told.push(Event::default().event("outcome").data(data));
                    false
                }
            });
            for event in told {
                // A client that does not read holds up nobody but this task; one that is gone ends it.
                if send.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(Sse::new(ReceiverStream::new(receive)).keep_alive(KeepAlive::default()).into_response())
}
