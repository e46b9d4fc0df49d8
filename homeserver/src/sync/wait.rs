//! Waiting for news.

use std::time::Duration;

use myelin_core::sync::{answer::Answer, look::Ask, online::Online};
use tokio::time::{Instant, sleep_until};

use crate::{app::App, response::ApiError};

/// Looks, and waits until there is something to tell, the time is over, or the server stops.
pub(super) async fn wait(
    app: &App,
    online: &Online,
    ask: &Ask<'_>,
    timeout: Duration,
) -> Result<Answer, ApiError> {
    let end = Instant::now() + timeout;
    let server = &app.server;
    loop {
        // Registered before looking: what comes while we look wakes us all the same.
        let woken = online.wake().notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let answer = server.sync(online, ask).await?;
        let over = ask.since.is_none() || ask.full_state || Instant::now() >= end;
        if over || !answer.is_empty() {
            return Ok(answer);
        }
        tokio::select! {
            () = &mut woken => {}
            () = sleep_until(typing_ends(app, online).map_or(end, |typing| typing.min(end))) => {}
            () = app.stopping() => return Ok(answer),
        }
    }
}

/// When somebody in the user's rooms stops typing: nothing else tells of it.
fn typing_ends(app: &App, online: &Online) -> Option<Instant> {
    let rooms = online.known_rooms()?;
    let at = app.server.typing.next_expiry(|room| rooms.contains_key(&room))?;
    let left = u64::try_from(at.saturating_sub(app.server.now_ms())).unwrap_or(0);
    Some(Instant::now() + Duration::from_millis(left))
}
