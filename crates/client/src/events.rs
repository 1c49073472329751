//! The live event stream (server-sent events).

use futures::StreamExt;
use reqwest::Method;
use serde_json::Value;

use crate::{Client, Error, chain};

/// One message of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerEvent {
    /// `job`, `event`, `object` or `reset`.
    pub name: String,
    /// Sequence, for resumption.
    pub id: Option<String>,
    /// Payload.
    pub data: Value,
}

/// An open stream.
pub struct EventStream {
    bytes: futures::stream::BoxStream<'static, Result<Vec<u8>, reqwest::Error>>,
    buffer: Vec<u8>,
    url: String,
}

impl Client {
    /// Opens the stream of these topics, after the event `last` when given.
    pub async fn events(&self, topics: &[&str], last: Option<&str>) -> Result<EventStream, Error> {
        let (url, mut r) = self.request(Method::GET, &format!("/events/stream?topics={}", topics.join(",")));
        r = r.header("Accept", "text/event-stream");
        if let Some(last) = last {
            r = r.header("Last-Event-ID", last);
        }
        let answer = r.send().await.map_err(|e| Error::Unreachable { url: url.clone(), cause: chain(&e) })?;
        let status = answer.status();
        if !status.is_success() {
            let body: Value = answer.json().await.unwrap_or_default();
            let message =
                body.get("message").and_then(Value::as_str).unwrap_or("the event stream was refused").to_owned();
            return Err(Error::Api { status, message, body });
        }
        Ok(EventStream { bytes: answer.bytes_stream().map(|r| r.map(|b| b.to_vec())).boxed(), buffer: Vec::new(), url })
    }
}

impl EventStream {
    /// The next event; `None` when the server closed the stream.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, Error> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(event));
                }
                continue;
            }
            match self.bytes.next().await {
                Some(Ok(bytes)) => self.buffer.extend(bytes.iter().filter(|b| **b != b'\r')),
                Some(Err(e)) => return Err(Error::Unreachable { url: self.url.clone(), cause: chain(&e) }),
                None => return Ok(None),
            }
        }
    }
}

/// One block of the stream; `None` for comments (heartbeats).
fn parse(block: &str) -> Option<ServerEvent> {
    let (mut name, mut id, mut data) = ("message".to_owned(), None, String::new());
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "id" => id = Some(value.to_owned()),
            "data" => data.push_str(value),
            _ => {}
        }
    }
    let data = if data.is_empty() { Value::Null } else { serde_json::from_str(&data).ok()? };
    (name != "message" || !data.is_null()).then_some(ServerEvent { name, id, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        assert_eq!(parse(": heartbeat\n\n"), None);
        let e = parse("id: 7\nevent: job\ndata: {\"jobId\": 1}\n\n").unwrap();
        assert_eq!((e.name.as_str(), e.id.as_deref(), e.data["jobId"].as_i64()), ("job", Some("7"), Some(1)));
    }
}
