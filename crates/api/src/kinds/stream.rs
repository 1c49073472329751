//! The live stream (server-sent events): events, changed objects and jobs, as they happen, resumed by event id.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    time::Duration,
};

use axum::response::{
    IntoResponse,
    sse::{Event, KeepAlive, Sse},
};
use engine::entity::job;
use model::{Id, job::JobReport};
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::{Value, json};
use store::entity::event;
use tokio::sync::{broadcast::error::RecvError, mpsc};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{event as events, job as jobs},
    routes,
};

routes! {
    "streamEvents" => stream,
}

/// Events replayed at most; a client that missed more is told to read anew.
const REPLAY: u64 = 500;
/// Messages that wait for a slow client; then the stream ends, and the client resumes.
const QUEUE: usize = 256;
/// Jobs whose visibility is remembered.
const REMEMBERED_JOBS: usize = 10_000;
/// Comment that keeps idle connections alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

struct Stream {
    ctx: Ctx,
    topics: HashSet<String>,
    last: Id,
    /// Infrastructure of each job seen, and whether the caller may see it.
    jobs: HashMap<Id, Option<Value>>,
    out: mpsc::Sender<Result<Event, Infallible>>,
}

async fn stream(ctx: Ctx) -> Result<Reply, ApiError> {
    let topics: HashSet<String> = ctx
        .query_value("topics")
        .unwrap_or("event,object,job")
        .split(',')
        .map(|t| t.trim().to_owned())
        .filter(|t| !t.is_empty())
        .collect();
    if let Some(bad) = topics.iter().find(|t| !matches!(t.as_str(), "event" | "object" | "job")) {
        return Err(ApiError::field("topics", format!("{bad:?} is not a topic; use event, object, job")));
    }
    let newest = events::visible(&ctx)
        .order_by_desc(event::Column::Id)
        .select_only()
        .column(event::Column::Id)
        .into_tuple::<Id>()
        .one(&ctx.app.db().read)
        .await?
        .unwrap_or(0);
    let resume = ctx
        .headers
        .get("last-event-id")
        .and_then(|h| h.to_str().ok())
        .or_else(|| ctx.query_value("lastEventId"))
        .and_then(|t| t.parse::<Id>().ok());
    let (out, receive) = mpsc::channel(QUEUE);
    let changes = ctx.app.0.changes.subscribe();
    let reports = ctx.app.engine().subscribe();
    let last = resume.unwrap_or(newest).min(newest);
    tokio::spawn(Stream { ctx, topics, last, jobs: HashMap::new(), out }.run(changes, reports));
    let sse =
        Sse::new(tokio_stream::wrappers::ReceiverStream::new(receive)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    Ok(Reply::Raw(sse.into_response()))
}

impl Stream {
    /// Until the client goes, or is too slow.
    async fn run(
        mut self,
        mut changes: tokio::sync::broadcast::Receiver<()>,
        mut reports: tokio::sync::broadcast::Receiver<JobReport>,
    ) {
        let out = self.out.clone();
        if self.replay().await.is_none() {
            return;
        }
        loop {
            let more = tokio::select! {
                () = out.closed() => return,
                r = changes.recv() => !matches!(r, Err(RecvError::Closed)) && self.replay().await.is_some(),
                r = reports.recv() => match r {
                    Ok(report) => self.job(report).await.is_some(),
                    // Reports were lost: the client reads the jobs anew.
                    Err(RecvError::Lagged(_)) => self.send("reset", None, &json!({"topic": "job"})).is_some(),
                    Err(RecvError::Closed) => false,
                },
            };
            if !more {
                return;
            }
        }
    }

    /// `None`: the client is gone or too slow.
    fn send(&self, name: &str, id: Option<Id>, data: &Value) -> Option<()> {
        let mut message = Event::default().event(name).data(data.to_string());
        if let Some(id) = id {
            message = message.id(id.to_string());
        }
        self.out.try_send(Ok(message)).ok()
    }

    /// Sends the events since the last one sent.
    async fn replay(&mut self) -> Option<()> {
        let rows = events::visible(&self.ctx)
            .filter(event::Column::Id.gt(self.last))
            .order_by_asc(event::Column::Id)
            .limit(REPLAY + 1)
            .all(&self.ctx.app.db().read)
            .await
            .ok()?;
        if rows.len() as u64 > REPLAY {
            self.last = rows.last()?.id;
            return self.send("reset", Some(self.last), &json!({"topic": "event"}));
        }
        for row in rows {
            self.last = row.id;
            if self.topics.contains("object")
                && let (Some(kind), Some(id)) = (&row.object_kind, row.object_id)
            {
                self.send(
                    "object",
                    Some(row.id),
                    &json!({"kind": kind, "id": id, "change": row.kind, "infrastructureId": row.infrastructure_id}),
                )?;
            }
            if self.topics.contains("event") {
                self.send("event", Some(row.id), &events::wire(&row))?;
            }
        }
        Some(())
    }

    async fn job(&mut self, report: JobReport) -> Option<()> {
        if !self.topics.contains("job") {
            return Some(());
        }
        let known = match self.jobs.get(&report.job_id) {
            Some(known) => known.clone(),
            None => {
                let row = jobs::visible_jobs(&self.ctx)
                    .filter(job::Column::Id.eq(report.job_id))
                    .one(&self.ctx.app.db().read)
                    .await
                    .ok()?;
                let known = row.map(|j| json!({"groupId": j.group_id, "infrastructureId": j.infrastructure_id, "instanceId": j.instance_id, "serverId": j.server_id, "networkDeviceId": j.network_device_id, "title": j.title, "key": j.key, "functionName": j.function}));
                // A stream that lives for weeks must not remember every job.
                if self.jobs.len() >= REMEMBERED_JOBS {
                    self.jobs.clear();
                }
                self.jobs.insert(report.job_id, known.clone());
                known
            }
        };
        let Some(mut data) = known else { return Some(()) };
        data["jobId"] = report.job_id.into();
        data["status"] = report.status.as_str().into();
        data["percent"] = json!(report.percent);
        data["message"] = json!(report.message);
        data["error"] = json!(report.error);
        data["sequence"] = report.sequence.into();
        self.send("job", None, &data)
    }
}
