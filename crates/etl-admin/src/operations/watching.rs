//! How it is doing: probes, metrics, health; and who is asking.

use etl_orchestrator::{Health, Reason};
use serde_json::{Value, json};

use super::tagged;
use crate::answer::{Answer, TEXT};
use crate::call::Call;
use crate::site::Site;

pub(crate) fn alive(_site: &Site, _call: &Call) -> Result<Answer, Answer> {
    Ok(Answer::new(TEXT, "ok\n"))
}

/// Says no more than the question needs: whoever asks has shown nothing.
pub(crate) fn ready(site: &Site, _call: &Call) -> Result<Answer, Answer> {
    let is_open = site.orchestrator.is_open();
    let health = site.orchestrator.health();
    let answer = Answer::json(&json!({ "ready": is_open, "state": health.state() }));
    Ok(answer.status(if is_open { 200 } else { 503 }))
}

pub(crate) fn metrics(site: &Site, _call: &Call) -> Result<Answer, Answer> {
    const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
    Ok(Answer::new(PROMETHEUS, site.host.metrics()))
}

pub(crate) fn openapi(_site: &Site, _call: &Call) -> Result<Answer, Answer> {
    Ok(Answer::json(&crate::openapi::document()))
}

pub(crate) fn session(_site: &Site, call: &Call) -> Result<Answer, Answer> {
    let identity = call.identity.as_ref();
    Ok(Answer::json(&json!({
        "name": identity.map(|identity| &identity.name),
        "role": identity.map(|identity| identity.role.name()),
        "pipelines": identity.map_or(&[][..], |identity| identity.scope.patterns()),
    })))
}

pub(crate) fn health(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let mut health = site.orchestrator.health();
    let reach = Reachable::new(site, call);
    health
        .reasons
        .retain(|reason| match (&reason.pipeline, &reason.module) {
            (Some(pipeline), _) => call.reaches(pipeline),
            (None, Some(module)) => reach.module(module),
            (None, None) => true,
        });
    let generation = site.orchestrator.generation();
    // It holds up every pipeline, and names places that those who are confined are not told of.
    let waiting = match call.is_unconfined() {
        true => site.host.waiting(),
        false => Vec::new(),
    };
    let value = json!({
        "ready": site.orchestrator.is_open(),
        "state": health.state(),
        "reasons": reasons(&health),
        "waiting": waiting,
        "generation": generation,
    });
    Ok(tagged(generation, &value))
}

fn reasons(health: &Health) -> Value {
    let reason = |reason: &Reason| {
        json!({
            "alert": reason.alert,
            "pipeline": reason.pipeline.as_deref(),
            "module": reason.module.as_deref(),
            "message": reason.message,
        })
    };
    health.reasons.iter().map(reason).collect()
}

/// The modules that pipelines within a caller's reach use.
pub(super) struct Reachable(Option<Vec<String>>);

impl Reachable {
    pub(super) fn new(site: &Site, call: &Call) -> Self {
        let everything = call
            .identity
            .as_ref()
            .is_none_or(|identity| identity.scope.is_everything());
        Self((!everything).then(|| {
            let modules = site.orchestrator.modules().into_iter();
            modules
                .filter(|module| module.used_by.iter().any(|user| call.reaches(user)))
                .map(|module| module.id)
                .collect()
        }))
    }

    pub(super) fn module(&self, id: &str) -> bool {
        let Some(modules) = &self.0 else { return true };
        modules.iter().any(|module| module == id)
    }
}
