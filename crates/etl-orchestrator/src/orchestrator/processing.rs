//! The ways in for records that the orchestrator's own lanes are to handle.

use super::*;

impl Orchestrator {
    /// Handles one record. Waits while as much is in flight as may be. Of two records of one partition, the outcome of the one that was
    /// given first comes first.
    ///
    /// The record is given when the future is first polled. Dropping the future gives up on the outcome; what was begun is finished.
    ///
    /// # Errors
    /// `Closed` after [`shutdown`](Self::shutdown).
    pub async fn process(&self, record: Arc<Record>) -> Result<Outcome, ProcessError> {
        let outcomes = self
            .submit(std::slice::from_ref(&record), true)?
            .outcomes()
            .await?;
        Ok(outcomes.into_iter().next().unwrap_or_default())
    }

    /// Handles a batch: outcomes in the order of the records, the same as if each had been given alone.
    ///
    /// The batch is given when the future is first polled; where that must be now, there is [`submit_batch`](Self::submit_batch).
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub async fn process_batch(
        &self,
        records: Vec<Arc<Record>>,
    ) -> Result<Vec<Outcome>, ProcessError> {
        self.submit(&records, true)?.outcomes().await
    }

    /// Gives a batch here and now, and answers a future of its outcomes. Its place among the batches of its partitions, and the
    /// configuration that it meets, are settled when this returns, whenever the future is polled and by whatever task.
    ///
    /// Where as much is in flight as may be, the batch waits to be let in, and the future with it; the batch keeps its place. Dropping
    /// the future gives up on the outcomes; what was begun is finished.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use etl_config::{LoadOptions, load_text};
    /// # use etl_orchestrator::{Options, Orchestrator, Record};
    /// # let loaded = load_text("etl.toml", "", &LoadOptions::isolated())?;
    /// # let orchestrator = Orchestrator::start(loaded, Options::default())?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// let first = orchestrator.submit_batch(&[Arc::new(Record::new("orders", "1"))])?;
    /// let second = orchestrator.submit_batch(&[Arc::new(Record::new("orders", "2"))])?;
    /// // Whichever is awaited first: the first batch was before the second.
    /// let outcomes = runtime.block_on(async { (second.await, first.await) });
    /// assert_eq!(outcomes.1?[0].outputs[0].value(), "1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Closed` after [`shutdown`](Self::shutdown); the future as [`process`](Self::process).
    pub fn submit_batch(
        &self,
        records: &[Arc<Record>],
    ) -> Result<impl Future<Output = Result<Vec<Outcome>, ProcessError>> + Send + use<>, ProcessError>
    {
        Ok(self.submit(records, true)?.outcomes())
    }

    /// Handles a batch if it may come in at once: then it is given here and now, as by [`submit_batch`](Self::submit_batch).
    ///
    /// # Errors
    /// `Busy` where it would have to wait; nothing has happened then.
    pub fn try_process_batch(
        &self,
        records: &[Arc<Record>],
    ) -> Result<impl Future<Output = Result<Vec<Outcome>, ProcessError>> + Send + use<>, ProcessError>
    {
        Ok(self.submit(records, false)?.outcomes())
    }

    /// Handles one record if it may come in at once.
    ///
    /// # Errors
    /// `Busy` where it would have to wait.
    pub fn try_process(
        &self,
        record: &Arc<Record>,
    ) -> Result<impl Future<Output = Result<Outcome, ProcessError>> + Send + use<>, ProcessError>
    {
        let submitted = self.submit(std::slice::from_ref(record), false)?;
        Ok(async move {
            Ok(submitted
                .outcomes()
                .await?
                .into_iter()
                .next()
                .unwrap_or_default())
        })
    }

    fn submit(&self, records: &[Arc<Record>], wait: bool) -> Result<Submitted, ProcessError> {
        let arrived = self.shared.clock.now();
        // None, until one is known.
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut groups = Groups::new(CHUNK).with_room(records.len());
        let mut partitions = Partitions::default();
        let mut bytes = 0;
        let mut passed = 0;
        {
            let snapshot = self.shared.live.load();
            let mut planner = self.planner();
            let Planner { plans, counters } = &mut *planner;
            let totals = counters.totals();
            let mut first = 0;
            while let Some(record) = records.get(first) {
                let same = |other: &&Arc<Record>| other.topic == record.topic;
                let end = first + records[first..].iter().take_while(same).count();
                let neighbours = &records[first..end];
                for record in neighbours {
                    partitions.add(record);
                    bytes += record.weight() as u64;
                }
                let plan = plans.plan(&snapshot, &record.topic, totals);
                totals.plan_hits.add((neighbours.len() - 1) as u64);
                if plan.is_empty() {
                    passed += neighbours.len() as u64;
                    outcomes.resize_with(first, Outcome::default);
                    outcomes.extend(neighbours.iter().cloned().map(Outcome::passed));
                } else {
                    groups.extend(&snapshot, plan, first, neighbours);
                }
                first = end;
            }
        }
        if !outcomes.is_empty() {
            outcomes.resize_with(records.len(), Outcome::default);
        }
        let runs: Vec<Run> = groups.take();
        let mut queue = self.shared.queue();
        if queue.closed {
            return Err(ProcessError::new(ProcessErrorKind::Closed));
        }
        if runs.is_empty() && queue.is_clear(&partitions.list) && self.shared.exit.is_clear() {
            queue.pass(records.len());
            drop(queue);
            self.count_passed(passed);
            return Ok(Submitted::Done(outcomes));
        }
        let missing = runs.iter().map(|run| run.convoy.records()).sum();
        let (sender, receiver) = oneshot::channel();
        let job = Arc::new(Job::new(
            records.len(),
            outcomes,
            missing,
            partitions.list,
            bytes,
            arrived,
            sender,
        ));
        let refused = queue.submit(&job, runs, wait);
        // Those that were given up may have made room for others, even where this one was refused.
        // One that looks for work at this moment takes what it finds before it sleeps.
        let looking = self.shared.looking.load(Ordering::Relaxed);
        let wake = queue.ready().saturating_sub(looking).min(queue.idle);
        Queue::let_go(queue, &self.shared.exit);
        // Only now: a lane that sees it asks for the lock.
        self.shared.arrivals.fetch_add(1, Ordering::Release);
        for _ in 0..wake {
            self.shared.work.notify_one();
        }
        if refused {
            return Err(ProcessError::new(ProcessErrorKind::Busy));
        }
        self.count_passed(passed);
        Ok(Submitted::Waiting(Ticket { job, receiver }))
    }

    /// Counts records that were taken in and that nothing selects. Those that are refused will come again.
    fn count_passed(&self, passed: u64) {
        if passed == 0 {
            return;
        }
        let planner = self.planner();
        let totals = planner.counters.totals();
        totals.passed_through.add(passed);
        totals.records_out.add(passed);
    }

    fn planner(&self) -> MutexGuard<'_, Planner> {
        let index = self.next_planner.fetch_add(1, Ordering::Relaxed) % PLANNERS;
        self.planners[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
