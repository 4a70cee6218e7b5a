//! Doing to a flight what its module answered: keep, change, drop, emit.

use super::*;

impl Convoy {
    /// Does to a flight what the module answered.
    pub(super) fn take(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        reply: Reply,
        told: &mut Told,
    ) -> Result<(), TransformError> {
        let before = self
            .trace
            .is_some()
            .then(|| self.flights[index].view.clone());
        let changed = match reply {
            Reply::Fail(error) => return Err(error),
            Reply::Keep => false,
            Reply::Value(value) if !place.stage.parallel => {
                self.keep_input(place, index);
                let flight = &mut self.flights[index];
                let replaced = flight.view.replace_value(value);
                if let Some(replaced) = &replaced {
                    let (view, place) = (&flight.view, flight.scratch);
                    let before = view.before(replaced);
                    core.conditions.changed(place, before, view, Touched::VALUE);
                }
                replaced.is_some()
            }
            Reply::Value(value) => {
                let changes = vec![Change::SetValue(value)];
                self.change(core, place, module, index, changes)?
            }
            Reply::Change(delta) => {
                self.change(core, place, module, index, delta.into_changes())?
            }
            Reply::Drop => {
                core.counters
                    .module(place.module(module).index)
                    .dropped
                    .add(1);
                if place.stage.parallel {
                    self.flights[index].pending.get_or_insert_default().dropped = true;
                } else {
                    self.drop(place, index);
                }
                self.passed(place, module, index, before, Happened::Dropped);
                return Ok(());
            }
        };
        let happened = if changed {
            told.changed += 1;
            Happened::Changed
        } else {
            told.kept += 1;
            Happened::Kept
        };
        self.passed(place, module, index, before, happened);
        Ok(())
    }

    /// A flight is through with a module.
    #[inline]
    fn passed(
        &mut self,
        place: &Place<'_>,
        module: usize,
        index: usize,
        before: Option<View>,
        happened: Happened,
    ) {
        self.flights[index].next_module();
        if self.trace.is_some() {
            self.trace(place, module, index, before, happened);
        }
    }

    pub(super) fn drop(&mut self, place: &Place<'_>, index: usize) {
        self.keep_input(place, index);
        let flight = &mut self.flights[index];
        flight.state = State::Gone;
        self.slots[flight.slot].outcome.dropped += 1;
        self.families[flight.family].dropped += 1;
    }

    /// What the stage emitted for a flight goes no further, and has not been emitted.
    pub(super) fn take_back(&mut self, index: usize, emitted: usize) {
        let flight = &self.flights[index];
        let emitted = u32::try_from(emitted).unwrap_or(u32::MAX);
        self.slots[flight.slot].outcome.emitted -= emitted;
        self.families[flight.family].emitted -= emitted;
    }

    /// Makes the changes of a module, all of them or none.
    pub(super) fn change(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        mut changes: Vec<Change>,
    ) -> Result<bool, TransformError> {
        let bad = |error: crate::view::BadChange| {
            TransformError::new(FailureKind::InvalidOutput, error.0)
        };
        let mut emitted: Vec<NewRecord> = Vec::new();
        if changes
            .iter()
            .any(|change| matches!(change, Change::Emit(_)))
        {
            changes.retain_mut(|change| match change {
                Change::Emit(record) => {
                    emitted.push(std::mem::take(&mut **record));
                    false
                }
                _ => true,
            });
            let slot = self.flights[index].slot;
            let total = self.slots[slot].outcome.emitted as usize + emitted.len();
            if total > place.program.max_emitted as usize {
                let message = format!(
                    "{total} records emitted for one input, {} are allowed",
                    place.program.max_emitted
                );
                return Err(TransformError::new(FailureKind::InvalidOutput, message));
            }
        }
        let changed = if place.stage.parallel {
            match Written::of(&self.flights[index].view, changes).map_err(bad)? {
                Some(written) => {
                    self.flights[index]
                        .pending
                        .get_or_insert_default()
                        .written
                        .push((module, written));
                    true
                }
                None => false,
            }
        } else {
            self.keep_input(place, index);
            let flight = &mut self.flights[index];
            let before = flight.value_if_looked_at();
            let (changed, touched) = flight.view.apply_all(changes).map_err(bad)?;
            if changed {
                let (view, place) = (&flight.view, flight.scratch);
                core.conditions.changed(place, &before, view, touched);
            }
            changed
        };
        if emitted.is_empty() {
            return Ok(changed);
        }
        self.keep_input(place, index);
        let flight = &mut self.flights[index];
        let count = u32::try_from(emitted.len()).unwrap_or(u32::MAX);
        self.slots[flight.slot].outcome.emitted += count;
        self.families[flight.family].emitted += count;
        let original = flight.view.original().clone();
        let topic = flight.view.topic().clone();
        let pending = flight.pending.get_or_insert_default();
        pending.emitted.extend(emitted.into_iter().map(|record| {
            Arc::new(Record {
                topic: record
                    .topic
                    .filter(|topic| !topic.is_empty())
                    .unwrap_or_else(|| topic.clone()),
                partition: original.partition,
                offset: original.offset,
                key: record.key,
                value: record.value,
                headers: record.headers,
                timestamp: record.timestamp,
            })
        }));
        Ok(true)
    }
}
