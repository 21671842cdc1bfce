//! Where progress goes: a bar on a terminal, JSON lines in a pipe or pod, or nowhere.

use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use alignment_api::{PROGRESS_SCHEMA, Progress, Stage};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::observer::{Cancel, Observer, Step};

/// Form of the progress output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressMode {
    /// A bar if standard error is a terminal, JSON lines on standard output otherwise.
    #[default]
    Auto,
    /// A bar on standard error.
    Bar,
    /// JSON lines on standard output.
    Json,
    /// Nothing.
    None,
}

enum Sink {
    Bar(ProgressBar),
    Json,
    None,
}

struct State {
    stage: Stage,
    /// Part of the whole run that the stage takes, in percent.
    range: (u8, u8),
    last: Option<(Stage, u8, Option<u32>, Option<u32>)>,
}

/// Turns steps within stages into progress of the whole run.
pub struct Reporter {
    sink: Sink,
    started: Instant,
    state: Mutex<State>,
}

impl Reporter {
    /// A reporter of the given form.
    pub fn new(mode: ProgressMode) -> Self {
        let bar = match mode {
            ProgressMode::Bar => true,
            ProgressMode::Auto => std::io::stderr().is_terminal(),
            ProgressMode::Json | ProgressMode::None => false,
        };
        let sink = if bar {
            let bar = ProgressBar::new(100);
            // The template is a constant: if it were wrong, the default style would do.
            if let Ok(style) =
                ProgressStyle::with_template("{msg:<34} {bar:32} {pos:>3} %  {elapsed}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            Sink::Bar(bar)
        } else if mode == ProgressMode::None {
            Sink::None
        } else {
            Sink::Json
        };
        Self {
            sink,
            started: Instant::now(),
            state: Mutex::new(State {
                stage: Stage::Load,
                range: (0, 0),
                last: None,
            }),
        }
    }

    /// Enters a stage of a run whose stages take these parts of it.
    pub fn enter(&self, stage: Stage, percent_range: fn(Stage) -> (u8, u8)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stage = stage;
        state.range = percent_range(stage);
        drop(state);
        self.step(&Step::default());
    }

    /// Reaches the end of the stage.
    pub fn end(&self) {
        self.step(&Step {
            fraction: 1.0,
            ..Step::default()
        });
    }

    /// Whether standard output carries JSON lines, so that nothing else may go there.
    pub fn writes_lines(&self) -> bool {
        matches!(self.sink, Sink::Json)
    }

    /// Writes a line, if standard output carries JSON lines.
    pub fn say(&self, line: &impl Serialize) {
        if self.writes_lines()
            && let Ok(line) = serde_json::to_string(line)
        {
            // A closed pipe must not stop the computation.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }

    /// Removes the bar, so that what is printed next starts on a clean line.
    pub fn finish(&self) {
        if let Sink::Bar(bar) = &self.sink {
            bar.finish_and_clear();
        }
    }

    fn progress(&self, state: &State, step: &Step) -> Progress {
        let (from, to) = state.range;
        let percent = f64::from(from) + f64::from(to - from) * step.fraction.clamp(0.0, 1.0);
        let elapsed = self.started.elapsed().as_secs_f64();
        let eta = (percent >= 10.0).then(|| (elapsed * (100.0 - percent) / percent).ceil() as u32);
        Progress {
            schema: PROGRESS_SCHEMA.to_owned(),
            stage: state.stage,
            percent: percent as u8,
            level: step.level,
            iteration: step.iteration,
            metric: step.metric,
            eta_seconds: eta,
        }
    }
}

impl Cancel for Reporter {}

impl Observer for Reporter {
    fn step(&self, step: &Step) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = self.progress(&state, step);
        let key = (
            progress.stage,
            progress.percent,
            progress.level,
            progress.iteration,
        );
        if state.last == Some(key) {
            return;
        }
        state.last = Some(key);
        match &self.sink {
            Sink::None => {}
            Sink::Bar(bar) => {
                bar.set_position(u64::from(progress.percent));
                let detail = match (progress.level, progress.iteration, progress.metric) {
                    (Some(level), Some(iteration), Some(metric)) => {
                        format!(" level {level} step {iteration} ({metric:.4})")
                    }
                    _ => String::new(),
                };
                bar.set_message(format!("{}{detail}", progress.stage.name()));
            }
            Sink::Json => self.say(&progress),
        }
    }
}
