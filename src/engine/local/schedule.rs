//! Decides what each wave holds, until every task is answered.
//!
//! Every wave takes one row of each sequence that is being written, and fills up with
//! rows of the trie. Where the sweep meets the end of a prompt, the sequence begins at
//! once, with the blocks of the path; a finished one makes room for the next in the
//! following wave. The sweep waits with further prompts while all slots are taken, so
//! keys and values of prompts never pile up; rows that are only scored go on.
//!
//! One trie serves both kinds of work: a prompt that is scored and written on is
//! computed once.

use std::collections::VecDeque;

use super::arithmetic::{Arithmetic, Fallible};
use super::decoder::Decoder;
use super::generate::{self, Ending, Slot};
use super::likelihood::Likelihoods;
use super::limits::{Limits, fit};
use super::pool::Pool;
use super::reading::{Answer, Question, read};
use super::sweep::{Part, Room, Sweep};
use super::wave::Wave;
use super::window::{self, Task, windows};
use crate::engine::{EngineError, Rows, Stop};
use crate::request::{Outcome, Work};

/// Answers go here, with the index of their request.
pub(crate) type Deliver<'d> = &'d mut dyn FnMut(usize, Outcome);

/// Answers `tasks`; returns early, with some unanswered, once a stop is seen.
pub(crate) fn run<A: Arithmetic>(
    decoder: &Decoder<A>,
    ending: Ending<'_>,
    mut tasks: Vec<Task<'_>>,
    limits: &Limits,
    stop: &Stop,
    deliver: Deliver<'_>,
) -> Result<Rows, EngineError> {
    if tasks.is_empty() {
        return Ok(Rows::default());
    }
    let architecture = &decoder.architecture;
    window::sort(&mut tasks);
    let fitted = fit(architecture, &tasks, limits)?;
    let mut schedule = Schedule {
        decoder,
        ending,
        wave_rows: fitted.wave_rows,
        n_slots: limits.n_slots.clamp(1, fitted.wave_rows),
        pool: Pool::new(architecture, fitted.kv_bytes),
        active: Vec::new(),
        waiting: VecDeque::new(),
        n_computed: 0,
        n_alone: 0,
        deliver,
    };
    let mut windows = windows(&tasks, limits.window);
    let mut current: Option<Current<'_, '_>> = None;
    loop {
        if current.as_ref().is_none_or(|it| it.sweep.is_done()) {
            current = windows.next().map(Current::new);
        }
        if current.is_none() && schedule.is_idle() {
            break;
        }
        let is_stopped = !schedule.step(current.as_mut(), stop)?;
        if is_stopped {
            break;
        }
    }
    Ok(schedule.rows())
}

/// The window that is being computed.
struct Current<'t, 'a> {
    sweep: Sweep<'t, 'a>,
    likelihoods: Likelihoods<'t, 'a>,
}

impl<'t, 'a> Current<'t, 'a> {
    fn new(tasks: &'t [Task<'a>]) -> Self {
        let sweep = Sweep::new(tasks);
        Self {
            likelihoods: Likelihoods::new(tasks, &sweep.trie),
            sweep,
        }
    }
}

/// The state between two waves.
struct Schedule<'a, 'd, A: Arithmetic> {
    decoder: &'d Decoder<A>,
    ending: Ending<'d>,
    wave_rows: usize,
    n_slots: usize,
    pool: Pool<A::Block>,
    /// Sequences that advance with every wave; memory is reserved to their end.
    active: Vec<Slot<'a>>,
    /// Sequences whose first token is known, until there is a slot for them.
    waiting: VecDeque<Slot<'a>>,
    n_computed: usize,
    /// Rows of the answered requests, had each been computed alone.
    n_alone: usize,
    deliver: Deliver<'d>,
}

/// A row of a wave that the head is asked about.
struct Asked {
    row: usize,
    /// Its node and its offset there, unless a slot was fed.
    place: Option<(usize, usize)>,
    /// Tokens to read there.
    picks: Vec<u32>,
    /// Sequences that go on from there.
    n_slots: usize,
}

impl<'a, A: Arithmetic> Schedule<'a, '_, A> {
    fn is_idle(&self) -> bool {
        self.active.is_empty() && self.waiting.is_empty()
    }

    fn rows(&self) -> Rows {
        Rows {
            n_computed: self.n_computed,
            n_shared: self.n_alone.saturating_sub(self.n_computed),
        }
    }

    /// Computes one wave; returns whether to go on.
    fn step(
        &mut self,
        current: Option<&mut Current<'_, 'a>>,
        stop: &Stop,
    ) -> Result<bool, EngineError> {
        self.admit();
        let (mut wave, mut asked) = (Wave::default(), Vec::new());
        for slot in &mut self.active {
            asked.push(Asked {
                row: slot.feed(&self.ending, &mut self.pool, &mut wave),
                place: None,
                picks: Vec::new(),
                n_slots: 1,
            });
        }
        let (mut current, mut parts) = (current, Vec::new());
        if let Some(current) = &mut current {
            parts = self.pack(&mut current.sweep, &mut wave);
            for part in &parts {
                current.ask(part, &mut asked);
            }
        }
        let rows: Vec<usize> = asked.iter().map(|it| it.row).collect();
        let kv = &mut self.pool.kv;
        let Some(hidden) = self.decoder.forward(&wave, &rows, kv, stop)? else {
            return Ok(false);
        };
        self.n_computed += wave.tokens.len();
        let n_active = self.active.len();
        let mut slots = std::mem::take(&mut self.active);
        if let Some(current) = &mut current {
            slots.extend(parts.iter().flat_map(|it| current.beginning(it)));
            current.sweep.advance(&mut self.pool);
        }
        let answers = self.read(&hidden, &asked, &mut slots)?;
        if let Some(current) = &mut current {
            for (asked, answer) in asked.iter().zip(&answers) {
                self.take(&mut current.likelihoods, asked, answer);
            }
        }
        let chosen = answers.into_iter().flat_map(|it| it.chosen);
        for (nth, (slot, token)) in slots.into_iter().zip(chosen).enumerate() {
            self.go_on(slot, token, nth < n_active);
        }
        Ok(true)
    }

    /// Gives slots to sequences that wait, first come first served.
    fn admit(&mut self) {
        while self.active.len() < self.n_slots
            && let Some(slot) = self.waiting.front()
        {
            let n_bytes = slot.own_bytes(&self.ending, self.pool.sizes());
            // One alone always fits: that was checked before the first wave.
            if !(self.active.is_empty() || self.pool.fits(n_bytes)) {
                return;
            }
            let Some(mut slot) = self.waiting.pop_front() else {
                return;
            };
            slot.reserve(&self.ending, &mut self.pool);
            self.active.push(slot);
        }
    }

    /// Fills a wave up with rows of the trie.
    fn pack(&mut self, sweep: &mut Sweep<'_, 'a>, wave: &mut Wave) -> Vec<Part> {
        let (sizes, n_context) = (self.pool.sizes(), self.ending.n_context);
        let waiting = self.waiting.iter();
        let n_live = self.active.len() + self.waiting.len();
        let room = Room {
            n_rows: self.wave_rows - self.active.len(),
            n_beginning: self.n_slots.saturating_sub(n_live),
            spare_bytes: waiting
                .map(|it| it.own_bytes(&self.ending, sizes))
                .max()
                .unwrap_or(0),
            is_forced: self.active.is_empty(),
        };
        let spare_bytes_of = |it: &Task<'_>| generate::own_bytes(it, sizes, n_context);
        sweep.pack(room, spare_bytes_of, &mut self.pool, wave)
    }

    /// Asks the head; `slots` go on from the rows that were asked about, in their order.
    fn read(
        &self,
        hidden: &A::Rows,
        asked: &[Asked],
        slots: &mut [Slot<'a>],
    ) -> Fallible<Vec<Answer>> {
        slots.iter_mut().for_each(Slot::draw);
        let mut turns = slots.iter().map(Slot::turn);
        let questions: Vec<Question<'_>> = asked
            .iter()
            .map(|it| Question {
                picks: &it.picks,
                turns: turns.by_ref().take(it.n_slots).collect(),
            })
            .collect();
        read(self.decoder, hidden, &questions)
    }

    /// Takes what a row says of scored tokens; answers requests that are complete.
    fn take(&mut self, likelihoods: &mut Likelihoods<'_, 'a>, asked: &Asked, answer: &Answer) {
        let (Some((node, offset)), Some(scan)) = (asked.place, &answer.scan) else {
            return;
        };
        for (task, outcome) in likelihoods.take(node, offset, scan) {
            self.n_alone += task.fed().len();
            (self.deliver)(task.index, outcome);
        }
    }

    /// Gives a sequence its next token; answers it if that was the last.
    fn go_on(&mut self, mut slot: Slot<'a>, token: Option<u32>, is_active: bool) {
        match slot.push(token, &self.ending) {
            Some(outcome) => {
                self.n_alone += slot.n_rows();
                (self.deliver)(slot.index(), outcome);
                slot.release(&mut self.pool);
            }
            None if is_active => self.active.push(slot),
            None => self.waiting.push_back(slot),
        }
    }
}

impl<'a> Current<'_, 'a> {
    /// Lists what the head is asked about the rows of a part.
    fn ask(&self, part: &Part, asked: &mut Vec<Asked>) {
        let row = |offset: usize| part.first_row + offset - part.offsets.start;
        let picks = self.likelihoods.picks_of(part.node, &part.offsets);
        for picks in picks.chunk_by(|a, b| a.offset == b.offset) {
            let offset = picks[0].offset;
            asked.push(Asked {
                row: row(offset),
                place: Some((part.node, offset)),
                picks: picks.iter().map(|it| it.token).collect(),
                n_slots: 0,
            });
        }
        let n_slots = self.ends_of(part).count();
        if n_slots == 0 {
            return;
        }
        let offset = part.offsets.end - 1;
        match asked.last_mut() {
            // The first scored token is read where the sequence begins.
            Some(it) if it.row == row(offset) => it.n_slots = n_slots,
            _ => asked.push(Asked {
                row: row(offset),
                place: Some((part.node, offset)),
                picks: Vec::new(),
                n_slots,
            }),
        }
    }

    /// The generations that begin behind a part.
    fn ends_of(&self, part: &Part) -> impl Iterator<Item = Task<'a>> + '_ {
        let is_whole = part.offsets.end == self.sweep.trie.nodes[part.node].span.len();
        let ends = is_whole.then(|| self.sweep.ends_of(part.node));
        ends.into_iter().flatten()
    }

    /// Sequences for them; their prompts are computed.
    fn beginning(&self, part: &Part) -> Vec<Slot<'a>> {
        let begin = |task: Task<'a>| match &task.request.work {
            Work::Generation(params) => {
                let past = self.sweep.past_of(part.node);
                Some(Slot::new(task, params, past))
            }
            Work::Loglikelihood { .. } => None,
        };
        self.ends_of(part).filter_map(begin).collect()
    }
}
