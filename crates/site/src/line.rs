//! The site's side of the link.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{Engine, EngineError, ReportSink};
use link::{Queue, client::GLOBAL};
use model::{
    job::{JobCommand, JobReport, JobStatus},
    link::{Down, Hello, Up},
};
use sea_orm::{DatabaseTransaction, DbErr};

use crate::{Site, session::Stage};

/// Every change of a job goes into the queue, in the transaction that makes it. Only the newest news of a job waits.
pub(crate) struct Reports {
    pub(crate) queue: Queue,
}

#[async_trait]
impl ReportSink for Reports {
    async fn report(&self, txn: &DatabaseTransaction, report: &JobReport) -> Result<(), DbErr> {
        let subject = format!("job/{}", report.job_id);
        self.queue.push(txn, GLOBAL, Some(&subject), &Up::Job(report.clone())).await?;
        Ok(())
    }
}

pub(crate) struct Line {
    pub(crate) site: Arc<Site>,
    pub(crate) engine: Engine,
    pub(crate) address: String,
}

impl Line {
    /// Orders that cannot be taken are answered, so that nobody waits for them.
    async fn refuse(&self, jobs: Vec<model::Id>, why: &str) -> Result<(), DbErr> {
        let txn = self.site.db.begin().await?;
        for job_id in jobs {
            let report = JobReport {
                job_id,
                sequence: 1,
                status: JobStatus::ThrownError,
                call_count: 0,
                retry_count: 0,
                percent: None,
                message: None,
                error: Some(format!("the site refuses the order: {why}")),
                response: None,
                started_at: None,
                finished_at: Some(store::time::now()),
            };
            self.site.queue.push(&txn, GLOBAL, Some(&format!("job/{job_id}")), &Up::Job(report)).await?;
        }
        txn.commit().await
    }
}

#[async_trait]
impl link::client::Site for Line {
    async fn hello(&self) -> Hello {
        Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            hostname: crate::membership::hostname(),
            address: self.address.clone(),
            snapshot_generation: self.site.facts.generation(),
            capabilities: ["dhcp", "tftp", "http", "redfish", "switch"].map(str::to_owned).to_vec(),
            clock: store::time::now(),
        }
    }

    async fn message(&self, down: Down) -> Result<(), String> {
        self.site.absence.news();
        match down {
            Down::Orders(book) => {
                let jobs = book.jobs.iter().map(|j| j.id).collect();
                tracing::info!(group = book.group_id, jobs = book.jobs.len(), "orders: {}", book.description);
                match self.engine.accept_book(book).await {
                    Ok(()) => {}
                    Err(EngineError::Db(e)) => return Err(e.to_string()),
                    Err(e) => {
                        tracing::error!(error = %e, "orders were refused");
                        self.refuse(jobs, &e.to_string()).await.map_err(|e| e.to_string())?;
                    }
                }
                self.site.queue.wake(GLOBAL);
                Ok(())
            }
            Down::Command(command) => {
                // Again means from the beginning: what an earlier attempt has reached does not count.
                if let JobCommand::Retry { job_id, .. } = &command
                    && self.site.session(*job_id).await.map_err(|e| e.to_string())?.is_some()
                {
                    self.site.move_session(*job_id, Stage::Ended).await.map_err(|e| e.to_string())?;
                }
                match self.engine.command(command).await {
                    Ok(()) => Ok(()),
                    Err(EngineError::Db(e)) => Err(e.to_string()),
                    // The job has moved on since the word was given.
                    Err(e) => {
                        tracing::info!("an operator's word came too late: {e}");
                        Ok(())
                    }
                }
            }
            Down::Snapshot { generation, items } => {
                tracing::debug!(generation, items = items.len(), "snapshot");
                self.site.facts.apply(&self.site.db, generation, items).await.map_err(|e| e.to_string())?;
                self.site.images.wake();
                Ok(())
            }
        }
    }

    async fn generation(&self) -> i64 {
        self.site.facts.generation()
    }

    async fn line(&self, broken: Option<String>) {
        self.site.absence.line(broken.is_none());
        match broken {
            None => tracing::info!("the line to the Global Controller is up"),
            Some(why) => tracing::warn!("the line to the Global Controller is down, work goes on: {why}"),
        }
    }

    async fn console(&self, wanted: model::console::OpenConsole, tunnel: link::Tunnel) {
        crate::console::serve(&self.site, wanted, tunnel).await;
    }
}
