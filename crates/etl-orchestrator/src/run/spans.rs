//! Spans for those who watch records on their way: a pipeline, its stages, the calls of its modules.
//!
//! They are of level `DEBUG`, and say which record they are about: the first of the batch, and how many there are. Where nobody
//! listens, all of it is one look at a number that the process has in common.

use tracing::span::{EnteredSpan, Span};

use super::*;

/// The span of the pipeline that a convoy is in.
#[derive(Default)]
pub(super) struct Spans {
    pipeline: Option<(usize, Span)>,
}

/// A stage that is entered, and its pipeline around it.
pub(super) struct Inside {
    // Dropped first: it is inside.
    _stage: EnteredSpan,
    _pipeline: EnteredSpan,
}

impl Spans {
    /// Enters a stage, where somebody listens.
    #[inline]
    pub(super) fn enter(&mut self, place: &Place<'_>, convoy: &Convoy) -> Option<Inside> {
        tracing::enabled!(tracing::Level::DEBUG).then(|| self.enter_stage(place, convoy))
    }

    #[cold]
    fn enter_stage(&mut self, place: &Place<'_>, convoy: &Convoy) -> Inside {
        let first = convoy.first();
        let records = convoy.len();
        let pipeline = match &self.pipeline {
            Some((index, span)) if *index == place.index => span.clone(),
            _ => tracing::debug_span!(
                "pipeline",
                pipeline = %place.pipeline.id,
                generation = place.program.generation,
                topic = first.map(|view| tracing::field::display(&view.original().topic)),
                partition = first.map(|view| view.original().partition),
                offset = first.map(|view| view.original().offset),
                records,
            ),
        };
        self.pipeline = Some((place.index, pipeline.clone()));
        let pipeline = pipeline.entered();
        let stage = tracing::debug_span!("stage", priority = place.stage.priority, records);
        Inside {
            _stage: stage.entered(),
            _pipeline: pipeline,
        }
    }
}

/// Enters a call of a module, where somebody listens.
#[inline]
pub(super) fn call(program: &ModuleProgram, views: &[&View]) -> Option<EnteredSpan> {
    tracing::enabled!(tracing::Level::DEBUG).then(|| enter_call(program, views))
}

#[cold]
fn enter_call(program: &ModuleProgram, views: &[&View]) -> EnteredSpan {
    let first = views.first().map(|view| view.original());
    tracing::debug_span!(
        "module",
        module = %program.id,
        partition = first.map(|record| record.partition),
        offset = first.map(|record| record.offset),
        records = views.len(),
    )
    .entered()
}

impl Convoy {
    /// The first of its records.
    fn first(&self) -> Option<&View> {
        let flight = self.flights.first().map(|flight| &flight.view);
        flight.or_else(|| self.together.first())
    }
}
