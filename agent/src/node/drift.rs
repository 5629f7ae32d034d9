//! What was found to be otherwise than the agent had put it: kept for a while, counted, shown.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::warn;
use weft_kernel::{Kernel, Survey};

use crate::{
    limits,
    mesh::Chain,
    metrics::Metrics,
    warnings::{Topic, Warnings},
};

/// Found, and repaired or not; shared by whoever looks.
pub struct Drift {
    kernel: Arc<Kernel>,
    metrics: Arc<Metrics>,
    warnings: Arc<Warnings>,
    found: Mutex<VecDeque<(Instant, String)>>,
    /// The last look at the node's own programs and tables: one serves all workloads that are read back in the same pass.
    survey: Mutex<Option<(Instant, Arc<Survey>)>>,
}

impl Drift {
    pub fn new(kernel: Arc<Kernel>, metrics: Arc<Metrics>, warnings: Arc<Warnings>) -> Self {
        Self { kernel, metrics, warnings, found: Mutex::default(), survey: Mutex::default() }
    }

    /// Something is not as it was put, and what became of it. `what`: one of `node`, `workload`, `policy`, `translation`.
    pub fn report(&self, what: &'static str, text: &str) {
        warn!(what, "drift: {text}");
        self.metrics.drift(what);
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= limits::DRIFT_KEPT_MAX {
            found.pop_front();
        }
        let at = OffsetDateTime::now_utc().replace_nanosecond(0).ok().and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_default();
        found.push_back((Instant::now(), format!("drift at {at}: {text}")));
        self.show(&found);
    }

    /// As [`Self::report`], unless the same is still shown.
    pub fn report_once(&self, what: &'static str, text: &str) {
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(_, shown)| shown.ends_with(text));
        if !known {
            self.report(what, text);
        }
    }

    /// What is older than [`limits::DRIFT_SHOWN`] is no warning any more.
    pub fn age(&self) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = found.len();
        found.retain(|(at, _)| at.elapsed() < limits::DRIFT_SHOWN);
        if found.len() != before {
            self.show(&found);
        }
    }

    fn show(&self, found: &VecDeque<(Instant, String)>) {
        self.warnings.set(Topic::Drift, found.iter().map(|(_, text)| text.clone()).collect());
    }

    /// A look at the node that is not older than `age`; what is missing of the node itself is put back first.
    pub fn survey(&self, age: Duration) -> Result<Arc<Survey>, String> {
        let mut last = self.survey.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, survey)) = last.as_ref().filter(|(at, _)| at.elapsed() < age) {
            return Ok(survey.clone());
        }
        let text = |e| Chain(&e).to_string();
        let mut survey = self.kernel.survey().map_err(text)?;
        if !survey.missing.is_empty() {
            let missing = survey.missing.join("; ");
            let outcome = self.kernel.repair().map_err(text);
            survey = self.kernel.survey().map_err(text)?;
            match (outcome, survey.missing.first()) {
                (Err(e), _) => self.report("node", &format!("{missing}: cannot be repaired: {e}")),
                (_, Some(still)) => self.report("node", &format!("{still}: the repair did not help")),
                _ => self.report("node", &format!("{missing}: repaired")),
            }
        }
        let survey = Arc::new(survey);
        *last = Some((Instant::now(), survey.clone()));
        Ok(survey)
    }
}
