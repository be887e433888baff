//! A JSON array of events, of which there may be thousands: written a part at a time while the client reads what
//! came before, each event on a line of its own.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;

use crate::control::model::Event;

/// Events of one part, some 60 KiB of shares.
const AT_ONCE: usize = 256;

/// An answer that is a list.
pub(super) struct List(pub(super) Vec<Event>);

impl IntoResponse for List {
    fn into_response(self) -> Response {
        let (begun, left) = (false, Some(self.0.into_iter()));
        let parts = stream::unfold((begun, left), |(begun, left)| async move {
            let mut left = left?;
            let mut part = Vec::with_capacity(64 * 1024);
            if !begun {
                part.push(b'[');
            }
            for (nth, event) in left.by_ref().take(AT_ONCE).enumerate() {
                if begun || nth > 0 {
                    part.extend_from_slice(b",\n");
                }
                event.write_json(&mut part);
            }
            let rest = (left.len() > 0).then_some(left);
            if rest.is_none() {
                part.push(b']');
            }
            Some((Ok::<_, Infallible>(Bytes::from(part)), (true, rest)))
        });
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (kind, Body::from_stream(parts)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::LogLine;

    #[tokio::test]
    async fn it_is_one_array_with_each_event_on_a_line_however_many_parts_there_are() {
        for count in [0, 1, 2, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE] {
            let line = |n: usize| {
                Event::Log(LogLine {
                    line: n.to_string(),
                })
            };
            let events: Vec<Event> = (0..count).map(line).collect();
            let body = List(events.clone()).into_response().into_body();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let read: Vec<Event> = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(read, events);
            let lines = bytes.split(|byte| *byte == b'\n');
            assert_eq!(lines.count(), count.max(1));
        }
    }
}
