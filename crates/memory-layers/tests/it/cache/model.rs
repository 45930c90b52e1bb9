//! The protocol, every way that it can go: two writers, two readers and one key with its wider
//! group. The server is the one that the cache in the process is made of, readers and writers take
//! the steps that the layer takes.
//!
//! At each step the server may be flushed, a group evicted (which is also how the time of a token or
//! a mark ends), and a client may crash; a mark may be lost on its way, arrive with the answer lost,
//! or arrive late; a commit may be refused, and one of unknown outcome may have happened, happen
//! later or never; the last step of a write may be lost, or its answer. Readers begin anew without
//! end, by themselves or in one process, so there is no bound but the two commits.

use std::time::Duration;

use memory_layers::cache_protocol::{
    Groups, ReadEvent, Reader, Seen, Standing, Verdict, WriteEvent, Writer, may_join,
};

use super::steps::{Fault, Mutant, Step};

/// A token or a mark. The numbers are dealt anew after each step, so that equal states are equal;
/// those that stand nowhere any more, and so are good for nothing, are all one.
type Token = u8;
type Tokens = (Token, Token);
/// How many commits there have been when a value was read.
type Version = u8;

pub(super) const KEY: u8 = 0;
pub(super) const WIDE: u8 = 1;
const ENTRY: u8 = 0;
const NO_MARK: Token = 0;
/// Fresh ones of a step are above this.
const SETTLED: Token = 16;
/// A writer with nothing more to do, or that crashed.
const GONE: Writer<Token> = Writer::Done(Verdict::Clean);

const MARK_TIME: Duration = Duration::from_secs(1);
const LIFE: Duration = Duration::from_secs(2);
/// When all that has an end is over.
const LATER: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct WriterState {
    machine: Writer<Token>,
    group: u8,
    /// Nothing has touched its mark since it was put: neither loss nor another write.
    is_guarded: bool,
    /// A mark that is still on its way.
    late_mark: Option<Token>,
    /// A commit that is still on its way.
    late_commit: bool,
    /// What its commit made of the store.
    version: Option<Version>,
}

/// What the leader of a flight tells a reader who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Landed {
    Value(Version),
    Crashed,
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ReaderState {
    machine: Reader<Tokens>,
    /// The oldest version that it may give.
    floor: Version,
    value: Option<Version>,
    landed: Option<Landed>,
    /// Whether the other reader may join it.
    leads: Option<Tokens>,
}

impl ReaderState {
    const IDLE: Self =
        Self { machine: Reader::Ask, floor: 0, value: None, landed: None, leads: None };
}

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    server: Groups<u8, Token, Version>,
    store: Version,
    /// The oldest version that a read which begins now may give.
    floor: Version,
    writers: [WriterState; 2],
    readers: [ReaderState; 2],
    /// The highest token that there is; of the mutant that counts, the server's counter.
    last: Token,
}

impl World {
    /// Nobody has done anything; `groups` says which group each writer touches.
    pub(super) fn new(groups: [u8; 2]) -> Self {
        let writer = |group| WriterState {
            machine: Writer::Begin,
            group,
            is_guarded: false,
            late_mark: None,
            late_commit: false,
            version: None,
        };
        Self {
            server: Groups::default(),
            store: 0,
            floor: 0,
            writers: groups.map(writer),
            readers: [ReaderState::IDLE; 2],
            last: SETTLED,
        }
    }

    /// Every step that can be taken.
    pub(super) fn steps(&self) -> Vec<Step> {
        use Step as S;
        let mut steps = Vec::with_capacity(24);
        if !self.server.is_empty() {
            steps.push(S::Flush);
            steps.extend(self.server.iter().map(|(group, _)| S::Evict(*group)));
        }
        for (at, writer) in self.writers.iter().enumerate() {
            if writer.late_mark.is_some() {
                steps.push(S::LateMarkArrives(at));
            }
            if writer.late_commit {
                steps.push(S::LateCommit(at));
            }
            match writer.machine {
                Writer::Begin | Writer::Remark => steps.extend([
                    S::MarkArrives(at),
                    S::MarkArrivesUnheard(at),
                    S::MarkIsLost(at),
                    S::MarkIsLate(at),
                ]),
                Writer::Commit(_) => steps.extend([
                    S::Commits(at),
                    S::IsRefused(at),
                    S::CommitsUnheard(at),
                    S::CommitIsLost(at),
                    S::CommitIsLate(at),
                ]),
                Writer::End(_) => steps.extend([S::Ends(at), S::EndsUnheard(at), S::EndIsLost(at)]),
                Writer::Done(_) => continue,
            }
            steps.push(S::WriterCrashes(at));
        }
        for (at, reader) in self.readers.iter().enumerate() {
            match reader.machine {
                Reader::Ask => steps.push(S::Asks(at)),
                Reader::Gather(_) => steps.extend([S::Leads(at), S::Joins(at)]),
                Reader::Load(_) => steps.extend([S::Loads(at), S::LoadFails(at)]),
                Reader::Fill(_) => steps.extend([S::Fills(at), S::FillIsLost(at)]),
                Reader::Wait(_) if reader.landed.is_some() => steps.push(S::Hears(at)),
                Reader::Wait(_) | Reader::Done => {}
            }
            if reader.machine != Reader::Ask {
                steps.push(S::ReaderCrashes(at));
            }
        }
        steps
    }

    /// The world after a step; `None` where it cannot be taken. A fault is one that the step shows.
    pub(super) fn after(&self, step: Step, mutant: Option<Mutant>) -> Option<Result<Self, Fault>> {
        let mut next = self.clone();
        let is_stale = next.take(step, mutant)?;
        if is_stale {
            return Some(Err(Fault::Stale));
        }
        if mutant == Some(Mutant::CountingTokens) {
            // Its numbers are what they are; a flush and few of them are enough to find it.
            let is_late = matches!(step, Step::MarkIsLate(_) | Step::CommitIsLate(_));
            if is_late || matches!(step, Step::Evict(_)) || next.last > SETTLED + 6 {
                return None;
            }
            next.forget();
            return Some(Ok(next));
        }
        next.settle();
        Some(Ok(next))
    }

    fn take(&mut self, step: Step, mutant: Option<Mutant>) -> Option<bool> {
        use Step as S;
        match step {
            S::Flush => {
                self.server = Groups::default();
                if mutant == Some(Mutant::CountingTokens) {
                    self.last = SETTLED;
                }
                self.writers.iter_mut().for_each(|writer| writer.is_guarded = false);
            }
            S::Evict(group) => {
                self.server.evict(&group);
                let of = self.writers.iter_mut().filter(|writer| writer.group == group);
                of.for_each(|writer| writer.is_guarded = false);
            }
            S::MarkArrives(at) => {
                let mark = self.put_mark(at, None, mutant);
                self.writers[at].is_guarded = true;
                self.tell_writer(at, WriteEvent::Began(mark), mutant);
            }
            S::MarkArrivesUnheard(at) => {
                self.put_mark(at, None, mutant);
                self.writers[at].is_guarded = true;
                self.tell_writer(at, WriteEvent::BeginFailed, mutant);
            }
            S::MarkIsLost(at) => self.tell_writer(at, WriteEvent::BeginFailed, mutant),
            S::MarkIsLate(at) => {
                self.writers[at].late_mark = Some(self.fresh());
                self.tell_writer(at, WriteEvent::BeginFailed, mutant);
            }
            S::LateMarkArrives(at) => {
                let mark = self.writers[at].late_mark.take()?;
                self.put_mark(at, Some(mark), mutant);
            }
            S::Commits(at) => {
                self.commit(at);
                self.tell_writer(at, WriteEvent::Applied, mutant);
            }
            S::IsRefused(at) => self.tell_writer(at, WriteEvent::NotApplied, mutant),
            S::CommitsUnheard(at) => {
                self.commit(at);
                self.tell_writer(at, WriteEvent::Unknown, mutant);
            }
            S::CommitIsLost(at) => self.tell_writer(at, WriteEvent::Unknown, mutant),
            S::CommitIsLate(at) => {
                self.writers[at].late_commit = true;
                self.tell_writer(at, WriteEvent::Unknown, mutant);
            }
            S::LateCommit(at) => {
                self.writers[at].late_commit = false;
                self.commit(at);
            }
            S::Ends(at) => {
                self.end(at, mutant)?;
                self.tell_writer(at, WriteEvent::Ended, mutant);
            }
            S::EndsUnheard(at) => {
                self.end(at, mutant)?;
                self.tell_writer(at, WriteEvent::EndFailed, mutant);
            }
            S::EndIsLost(at) => self.tell_writer(at, WriteEvent::EndFailed, mutant),
            S::WriterCrashes(at) => {
                self.writers[at].machine = GONE;
            }
            S::Asks(at) => return Some(self.ask(at)),
            S::Leads(at) => {
                let Reader::Gather(tokens) = self.readers[at].machine else { return None };
                self.readers[at].leads = Some(tokens);
                self.tell_reader(at, ReadEvent::Leads);
            }
            S::Joins(at) => return self.join(at, mutant),
            S::Loads(at) => {
                self.land(at, Landed::Value(self.store));
                self.readers[at].value = Some(self.store);
                self.tell_reader(at, ReadEvent::Loaded);
                return Some(self.answer(at));
            }
            S::LoadFails(at) => {
                self.land(at, Landed::Crashed);
                self.readers[at] = ReaderState::IDLE;
            }
            S::Fills(at) => {
                self.fill(at, mutant)?;
                self.tell_reader(at, ReadEvent::Filled);
                return Some(self.answer(at));
            }
            S::FillIsLost(at) => {
                self.tell_reader(at, ReadEvent::Filled);
                return Some(self.answer(at));
            }
            S::Hears(at) => return self.hear(at),
            S::ReaderCrashes(at) => {
                self.land(at, Landed::Abandoned);
                self.readers[at] = ReaderState::IDLE;
            }
        }
        Some(false)
    }

    // Writers.

    fn put_mark(&mut self, at: usize, mark: Option<Token>, mutant: Option<Mutant>) -> Token {
        let mark = mark.unwrap_or_else(|| self.fresh());
        let group = self.writers[at].group;
        match mutant {
            Some(Mutant::OnlyBefore) => {
                let token = self.fresh();
                self.server.evict(&group);
                self.server.end(&group, mark, token, LIFE, Duration::ZERO);
            }
            Some(Mutant::OnlyAfter) => {}
            Some(Mutant::MarkWithoutEnd) => {
                self.server.begin(&group, mark, Duration::MAX, Duration::ZERO);
            }
            _ => self.server.begin(&group, mark, MARK_TIME, Duration::ZERO),
        }
        for (other, writer) in self.writers.iter_mut().enumerate() {
            if other != at && writer.group == group {
                writer.is_guarded = false;
            }
        }
        mark
    }

    fn commit(&mut self, at: usize) {
        self.store += 1;
        self.writers[at].version = Some(self.store);
        if self.writers[at].is_guarded {
            self.floor = self.store;
        }
    }

    /// The last step arrives at the server: from here on what the write wrote has to be seen.
    fn end(&mut self, at: usize, mutant: Option<Mutant>) -> Option<()> {
        let Writer::End(mark) = self.writers[at].machine else { return None };
        let (group, mut mark) = (self.writers[at].group, mark.unwrap_or(NO_MARK));
        if mutant == Some(Mutant::EndTakesAnothersMark)
            && let Some(Standing::Mark(another)) = self.server.get(&group).map(|it| it.standing)
        {
            mark = another;
        }
        if mutant != Some(Mutant::OnlyBefore) {
            let token = self.fresh();
            self.server.end(&group, mark, token, LIFE, Duration::ZERO);
        }
        self.floor = self.floor.max(self.writers[at].version.unwrap_or(0));
        Some(())
    }

    fn tell_writer(&mut self, at: usize, event: WriteEvent<Token>, mutant: Option<Mutant>) {
        let before = self.writers[at].machine;
        let mut after = before.after(event, false);
        match (mutant, before, event) {
            (Some(Mutant::EndAfterUnknown), Writer::Commit(mark), WriteEvent::Unknown) => {
                after = Writer::End(mark);
            }
            (Some(Mutant::NoEndWithoutMark), Writer::Commit(None), WriteEvent::Applied) => {
                after = Writer::Done(Verdict::Clean);
            }
            _ => {}
        }
        assert_ne!(before, after, "an event without effect: {event:?}");
        if after == Writer::Done(Verdict::Clean) {
            self.floor = self.floor.max(self.writers[at].version.unwrap_or(0));
        }
        self.writers[at].machine = after;
    }

    // Readers.

    fn ask(&mut self, at: usize) -> bool {
        let last = &mut self.last;
        let seen = self.server.read((&KEY, &WIDE, &ENTRY), LIFE, Duration::ZERO, || {
            *last += 1;
            *last
        });
        self.readers[at].floor = self.floor;
        let event = match seen {
            Seen::Hit(version) => {
                self.readers[at].value = Some(version);
                ReadEvent::Served
            }
            Seen::Miss(group, under) => ReadEvent::Missed((group, under)),
            Seen::InFlight => ReadEvent::InFlight,
        };
        self.tell_reader(at, event);
        if self.readers[at].machine == Reader::Load(None) {
            // What it reads from the store is never too old, and nobody else gets it.
            self.readers[at] = ReaderState::IDLE;
        }
        self.answer(at)
    }

    fn join(&mut self, at: usize, mutant: Option<Mutant>) -> Option<bool> {
        let Reader::Gather(tokens) = self.readers[at].machine else { return None };
        let leader = &self.readers[1 - at];
        let flight = leader.leads?;
        if !may_join(&flight, &tokens) && mutant != Some(Mutant::JoinsAnyFlight) {
            return None;
        }
        self.readers[at].landed = leader.value.map(Landed::Value);
        self.tell_reader(at, ReadEvent::Joined);
        Some(false)
    }

    /// A leader tells the other reader, if that one waits.
    fn land(&mut self, at: usize, landed: Landed) {
        let is_told = self.readers[at].leads.is_some();
        let other = &mut self.readers[1 - at];
        if is_told && matches!(other.machine, Reader::Wait(_)) && other.landed.is_none() {
            other.landed = Some(landed);
        }
    }

    fn hear(&mut self, at: usize) -> Option<bool> {
        let event = match self.readers[at].landed.take()? {
            Landed::Value(version) => {
                self.readers[at].value = Some(version);
                ReadEvent::Landed
            }
            Landed::Crashed => ReadEvent::Crashed,
            Landed::Abandoned => ReadEvent::Abandoned,
        };
        self.tell_reader(at, event);
        Some(self.answer(at))
    }

    fn fill(&mut self, at: usize, mutant: Option<Mutant>) -> Option<()> {
        let Reader::Fill(mut tokens) = self.readers[at].machine else { return None };
        let standing = |group| match self.server.get(&group).map(|it| it.standing) {
            Some(Standing::Token(token)) => Some(token),
            _ => None,
        };
        if mutant == Some(Mutant::FillWithoutToken) {
            tokens = (standing(KEY).unwrap_or(tokens.0), standing(WIDE).unwrap_or(tokens.1));
        } else if mutant == Some(Mutant::FillWithoutWideToken) {
            tokens.1 = standing(WIDE).unwrap_or(tokens.1);
        }
        let value = self.readers[at].value?;
        self.server.fill((&KEY, &WIDE, ENTRY), tokens, value, Duration::ZERO);
        Some(())
    }

    fn tell_reader(&mut self, at: usize, event: ReadEvent<Tokens>) {
        let before = self.readers[at].machine;
        let after = before.after(event);
        assert_ne!(before, after, "an event without effect: {event:?}");
        self.readers[at].machine = after;
    }

    /// Judges the answer of a reader that is done, and lets it begin anew; says whether it was
    /// stale.
    fn answer(&mut self, at: usize) -> bool {
        let reader = self.readers[at];
        if reader.machine != Reader::Done {
            return false;
        }
        self.readers[at] = ReaderState::IDLE;
        reader.value.is_none_or(|version| version < reader.floor)
    }

    /// Whether the key can be kept when all marks are over, whoever has crashed.
    pub(super) fn can_be_kept(&self) -> bool {
        let mut server = self.server.clone();
        let mut next = 200;
        let mut fresh = || {
            next += 1;
            next
        };
        let key = (&KEY, &WIDE, &ENTRY);
        let seen = server.read(key, LIFE, LATER, &mut fresh);
        let Seen::Miss(group, under) = seen else { return false };
        server.fill((&KEY, &WIDE, ENTRY), (group, under), 9, LATER)
            && server.read(key, LIFE, LATER, &mut fresh) == Seen::Hit(9)
    }

    // Tokens.

    /// A token that nobody has, or of the mutant that counts, the next.
    fn fresh(&mut self) -> Token {
        self.last += 1;
        self.last
    }

    /// Takes away what is of no more account.
    fn forget(&mut self) {
        for writer in &mut self.writers {
            if matches!(writer.machine, Writer::Done(_)) {
                writer.machine = GONE;
                writer.version = None;
                writer.is_guarded &= writer.late_commit;
            }
        }
        for reader in &mut self.readers {
            if matches!(reader.machine, Reader::Load(_) | Reader::Fill(_)) {
                // The store's value is never below it.
                reader.floor = 0;
            }
        }
        self.writers.sort_unstable_by_key(|writer| (writer.group, *writer));
        self.readers.sort_unstable();
    }

    /// Makes one of all states that are equal in what can still happen.
    fn settle(&mut self) {
        let mut standing = [NO_MARK; 2];
        for (name, group) in self.server.iter_mut() {
            let (Standing::Token(token) | Standing::Mark(token)) = &mut group.standing;
            standing[usize::from(*name)] = std::mem::replace(token, *name + 1);
        }
        for (_, group) in self.server.iter_mut() {
            // A value under a wide token that is gone is never found again.
            group.values.retain(|_, (under, _)| *under == standing[usize::from(WIDE)]);
            group.values.values_mut().for_each(|(under, _)| *under = WIDE + 1);
        }
        self.forget();
        for writer in &mut self.writers {
            if let Writer::Commit(Some(mark)) | Writer::End(Some(mark)) = &mut writer.machine {
                let is_standing = *mark == standing[usize::from(writer.group)];
                *mark = if is_standing { writer.group + 1 } else { 3 };
            }
            if let Some(mark) = &mut writer.late_mark {
                *mark = 4;
            }
        }
        self.writers.sort_unstable_by_key(|writer| (writer.group, *writer));
        let both = self.readers.map(|reader| reader.tokens());
        let deal = |tokens: Tokens, other: Option<Tokens>, own: Token| {
            let of = |token: Token, standing: Token, same: bool, dealt: [Token; 3]| {
                if token == standing {
                    dealt[0]
                } else if same {
                    dealt[1]
                } else {
                    dealt[2] + own
                }
            };
            let same = other.map_or((false, false), |it| (it.0 == tokens.0, it.1 == tokens.1));
            let group = of(tokens.0, standing[usize::from(KEY)], same.0, [KEY + 1, 5, 6]);
            (group, of(tokens.1, standing[usize::from(WIDE)], same.1, [WIDE + 1, 8, 9]))
        };
        let numbered = |readers: [ReaderState; 2], both: [Option<Tokens>; 2]| {
            let one = readers[0].with(|tokens| deal(tokens, both[1], 0));
            [one, readers[1].with(|tokens| deal(tokens, both[0], 1))]
        };
        let [one, two] = self.readers;
        let as_is = numbered([one, two], both);
        self.readers = as_is.min(numbered([two, one], [both[1], both[0]]));
        self.last = SETTLED;
    }
}

impl ReaderState {
    /// The tokens that it saw: those that it leads under are the same.
    fn tokens(&self) -> Option<Tokens> {
        match self.machine {
            Reader::Gather(tokens) | Reader::Wait(tokens) | Reader::Fill(tokens) => Some(tokens),
            Reader::Load(tokens) => tokens,
            Reader::Ask | Reader::Done => None,
        }
    }

    /// The same with other numbers for its tokens.
    fn with(mut self, deal: impl Fn(Tokens) -> Tokens) -> Self {
        match &mut self.machine {
            Reader::Gather(tokens) | Reader::Wait(tokens) | Reader::Fill(tokens) => {
                *tokens = deal(*tokens);
            }
            Reader::Load(Some(tokens)) => *tokens = deal(*tokens),
            Reader::Load(None) | Reader::Ask | Reader::Done => {}
        }
        self.leads = self.leads.map(deal);
        self
    }
}
