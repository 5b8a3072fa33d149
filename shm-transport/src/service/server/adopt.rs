//! Making a service, or taking it over from a supervisor that is dead or has left.
//!
//! Whether the name is free is decided by the link of the control segment, and by its owner word:
//! a living owner has the service. One that has ended and whose lock has not fallen yet is waited
//! for: a worker that it was just spawning has its memory until it runs its own program. A segment
//! without an owner, or with a dead one, is taken over with all that is in it; one that is closing
//! was being stopped when its supervisor died, and goes.
//! When a service is stopped its bells lose their name before the control segment does, so that who
//! has the name is alone with the rest.

use super::error::ServerError;
use super::recover::TARGET;
use crate::domain::{Domain, SegmentName};
use crate::liveness::{LivenessError, PidFd, Verdict};
use crate::member::Member;
use crate::segment::{OpenOptions, Segment, SegmentError};
use crate::service::mapped::{BellsMapped, ControlMapped, HEADER};
use crate::service::name::{ServiceName, bells_of, client_in, control_of};
use crate::service::role;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::layout::service::{ControlLayout, FunctionEntry, Shape};
use shm_primitives::part::ClaimError;
use shm_primitives::segment::{self as layout, Control, Magic};
use std::thread;
use std::time::Duration;

/// How often to try for a name that others are just giving up.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);
/// The same for one whose owner has ended, and is known by its lock still: the kernel is at it, or a
/// worker that it was just spawning has its memory until it is another program. 5 seconds.
const DYING: u32 = 2500;

/// A service, with the right to look after it. In this order: the words are given back before the
/// memory is.
#[derive(Debug)]
pub(super) struct Taken {
    pub control_word: Control<'static>,
    pub bells_word: Control<'static>,
    pub control: ControlMapped,
    pub bells: BellsMapped,
    /// Whether it was there before.
    pub adopted: bool,
    /// The dead supervisor that it was taken over from.
    pub former: Option<OwnerId>,
}

/// What became of one attempt.
enum Attempt {
    Taken(Box<Taken>),
    /// Something that stood in the way is gone, or about to be.
    Again,
    /// The owner has ended, and its lock not fallen yet.
    Dying {
        pid: Option<u32>,
    },
}

/// Makes the service, or takes it over.
pub(super) fn take(
    domain: &Domain,
    service: &ServiceName,
    shape: &Shape,
    functions: &[FunctionEntry],
    member: &Member,
) -> Result<Taken, ServerError> {
    let (mut attempts, mut dying) = (0, 0);
    loop {
        attempts += 1;
        let made = ControlMapped::create(domain, service, shape, member.id(), |control, _| {
            declare(control, functions, member.id());
            Ok::<_, ServerError>(())
        });
        let error = match made {
            Ok((control, control_word)) => {
                return finish_making(domain, service, shape, member, control, control_word);
            }
            Err(ServerError::Segment(error @ SegmentError::AlreadyExists { .. })) => error.into(),
            Err(error) => return Err(error),
        };
        let last = attempts == ATTEMPTS;
        match take_over(domain, service, shape, functions, member, last)? {
            Attempt::Taken(taken) => return Ok(*taken),
            Attempt::Dying { pid } if dying == DYING => {
                let service = String::from_utf8_lossy(service.as_bytes()).into_owned();
                return Err(ServerError::InUse { service, pid });
            }
            Attempt::Dying { .. } => {
                dying += 1;
                attempts -= 1;
                thread::sleep(PAUSE);
            }
            Attempt::Again if last => return Err(error),
            Attempt::Again => thread::sleep(PAUSE),
        }
    }
}

fn finish_making(
    domain: &Domain,
    service: &ServiceName,
    shape: &Shape,
    member: &Member,
    control: ControlMapped,
    control_word: Control<'static>,
) -> Result<Taken, ServerError> {
    let bells = make_bells(domain, service, shape, member);
    match bells {
        Ok((bells, bells_word)) => {
            Ok(Taken { control_word, bells_word, control, bells, adopted: false, former: None })
        }
        Err(error) => {
            let _ = control.segment.unlink_own(|_| Ok::<_, SegmentError>(true));
            Err(error)
        }
    }
}

/// Makes the bells. There are none but of one who died before the control segment was his; the one
/// who has that is alone.
fn make_bells(
    domain: &Domain,
    service: &ServiceName,
    shape: &Shape,
    member: &Member,
) -> Result<(BellsMapped, Control<'static>), ServerError> {
    loop {
        match BellsMapped::create(domain, service, shape, member.id()) {
            Err(ServerError::Segment(SegmentError::AlreadyExists { path })) => {
                if !remove(domain, &bells_of(service), Magic::BELL, member)? {
                    return Err(SegmentError::AlreadyExists { path }.into());
                }
            }
            other => return other,
        }
    }
}

/// Takes over what is there.
fn take_over(
    domain: &Domain,
    service: &ServiceName,
    shape: &Shape,
    functions: &[FunctionEntry],
    member: &Member,
    last: bool,
) -> Result<Attempt, ServerError> {
    let name = || String::from_utf8_lossy(service.as_bytes()).into_owned();
    let pid_of = |owner| pid_of(member, owner);
    let opened = ControlMapped::open(domain, service, |segment, control| {
        let path = segment.path();
        let found = control.segment();
        let wrong = |error| ServerError::Layout { path: path.into(), error };
        let owner = found.owner().map_err(|error| wrong(error.into()))?;
        let word = match owner {
            None => found.claim_control(member.id()),
            Some(owner) => match member.processes().convict(owner)? {
                Verdict::Dead(dead) => found.recover_control(dead, member.id()),
                Verdict::Alive if has_ended(member, owner) => {
                    return Ok(Err(Attempt::Dying { pid: pid_of(owner) }));
                }
                Verdict::Alive => {
                    return Err(ServerError::InUse { service: name(), pid: pid_of(owner) });
                }
                Verdict::Unknown => {
                    let what = "owner is none of the domain's members";
                    return Err(wrong(layout::SegmentError::Impossible(what)));
                }
            },
        };
        match word {
            Ok(word) => Ok(Ok((word, owner))),
            // Another was faster.
            Err(ClaimError::Owned(_) | ClaimError::NotTheOwner { .. }) => Ok(Err(Attempt::Again)),
            Err(_) => Err(wrong(layout::SegmentError::Impossible("owner word is none"))),
        }
    });
    let (control, mut control_word, former) = match opened {
        Ok((control, Ok((word, former)))) => (control, word, former),
        Ok((_, Err(attempt))) => return Ok(attempt),
        Err(ServerError::Segment(SegmentError::NotFound { .. })) => return Ok(Attempt::Again),
        Err(ServerError::Layout { error: layout::SegmentError::Closing { owner }, path }) => {
            let alive = match owner {
                Some(owner) => member.processes().convict(owner)? == Verdict::Alive,
                None => false,
            };
            if alive && last {
                return Err(ServerError::Stopping { service: name(), pid: owner.and_then(pid_of) });
            }
            if !alive {
                tracing::info!(target: TARGET, ?path, "a stop that was not finished is");
                remove(domain, &bells_of(service), Magic::BELL, member)?;
                remove(domain, &control_of(service), Magic::SRVC, member)?;
            }
            return Ok(Attempt::Again);
        }
        Err(error) => return Err(error),
    };
    if control.layout.shape() != shape {
        if lives(&control.layout, domain, service, member)? {
            return Err(ServerError::Shape {
                service: name(),
                found: Box::new(*control.layout.shape()),
                wanted: Box::new(*shape),
            });
        }
        // Nobody is left of it.
        control_word.close();
        drop(control_word);
        remove(domain, &bells_of(service), Magic::BELL, member)?;
        let _ = control.segment.unlink_own(|_| Ok::<_, ServerError>(true));
        return Ok(Attempt::Again);
    }
    declare_anew(&control.layout, functions, member);
    let (bells, bells_word) = match take_bells(domain, service, member)? {
        Some(taken) => taken,
        // Its supervisor died before it had made them.
        None => make_bells(domain, service, shape, member)?,
    };
    Ok(Attempt::Taken(Box::new(Taken {
        control_word,
        bells_word,
        control,
        bells,
        adopted: true,
        former,
    })))
}

/// Takes over the bells, for who has the control segment.
fn take_bells(
    domain: &Domain,
    service: &ServiceName,
    member: &Member,
) -> Result<Option<(BellsMapped, Control<'static>)>, ServerError> {
    let opened = BellsMapped::open(domain, service, |segment, bells| {
        let wrong = |what| ServerError::Layout {
            path: segment.path().into(),
            error: layout::SegmentError::Impossible(what),
        };
        let found = bells.segment();
        let word = match found.owner().map_err(|_| wrong("owner word is none"))? {
            None => found.claim_control(member.id()),
            Some(owner) => match member.processes().convict(owner)? {
                Verdict::Dead(dead) => found.recover_control(dead, member.id()),
                _ => return Err(wrong("somebody else has the bells")),
            },
        };
        word.map_err(|_| wrong("somebody else has the bells"))
    });
    match opened {
        Ok(taken) => Ok(Some(taken)),
        Err(ServerError::Segment(SegmentError::NotFound { .. })) => Ok(None),
        // Of a stop that was not finished, of which the control segment tells nothing yet.
        Err(ServerError::Layout { error: layout::SegmentError::Closing { .. }, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether any worker or client of the service is alive.
fn lives(
    control: &ControlLayout<'_>,
    domain: &Domain,
    service: &ServiceName,
    member: &Member,
) -> Result<bool, ServerError> {
    let is_alive =
        |owner| Ok::<_, ServerError>(member.processes().convict(owner)? == Verdict::Alive);
    for (_, owner) in control.workers().owners() {
        if is_alive(owner)? {
            return Ok(true);
        }
    }
    match BellsMapped::open(domain, service, |_, _| Ok::<_, ServerError>(())) {
        Ok((bells, ())) => {
            for (_, owner) in bells.layout.clients().owners() {
                if is_alive(owner)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Err(ServerError::Segment(SegmentError::NotFound { .. }) | ServerError::Layout { .. }) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Writes the table of functions of a new service.
fn declare(control: &ControlLayout<'_>, functions: &[FunctionEntry], owner: OwnerId) {
    for entry in functions {
        // There is room for all of them: that was checked.
        if let Ok(slot) = control.functions().claim(owner, entry) {
            let _ = slot.keep();
        }
    }
}

/// Brings the table of functions of an adopted service up to date.
fn declare_anew(control: &ControlLayout<'_>, functions: &[FunctionEntry], member: &Member) {
    let table = control.functions();
    let mut missing: Vec<FunctionEntry> = functions.to_vec();
    for (index, owner) in table.owners() {
        let Some(key) = table.tenancy(index) else { continue };
        // Who has the control segment is the only one that writes there.
        let Some(mut slot) = table.resume(key, owner) else { continue };
        let entry = slot.entry();
        match missing.iter().position(|it| entry.is_some_and(|entry| entry.func_id == it.func_id)) {
            Some(at) => {
                let wanted = missing.swap_remove(at);
                if entry != Some(wanted) {
                    slot.update(&wanted);
                }
                let _ = slot.hand_over(member.id());
            }
            None => slot.release(),
        }
    }
    declare(control, &missing, member.id());
}

/// Takes away a segment of the service that is nobody's, or a dead one's. True if it is not there
/// any more.
fn remove(
    domain: &Domain,
    name: &SegmentName,
    magic: Magic,
    member: &Member,
) -> Result<bool, ServerError> {
    let removed = Segment::unlink(domain, name, OpenOptions::new(HEADER), |segment| {
        is_left(segment, magic, member)
    });
    match removed {
        Ok(removed) => Ok(removed),
        Err(ServerError::Segment(SegmentError::NotFound { .. })) => Ok(true),
        Err(error) => Err(error),
    }
}

fn is_left(segment: &Segment, magic: Magic, member: &Member) -> Result<bool, ServerError> {
    match layout::owner_of(&segment.region(), magic) {
        Ok(None) => Ok(true),
        Ok(Some(owner)) if owner == member.id() => Ok(true),
        Ok(Some(owner)) => Ok(member.processes().convict(owner)?.dead().is_some()),
        // Whatever it is, it is not known to be a dead one's.
        Err(_) => Ok(false),
    }
}

/// Takes away the lanes of dead clients that no table of clients names any more.
pub(super) fn sweep_orphans(domain: &Domain, service: &ServiceName, member: &Member) {
    let Ok(segments) = domain.segments() else { return };
    for name in segments.flatten().filter(|name| client_in(service, name).is_some()) {
        let removed = Segment::unlink(domain, &name, OpenOptions::new(HEADER), |segment| {
            // One that is just being left has no owner, and no name in a moment.
            match layout::owner_of(&segment.region(), Magic::PHNX) {
                Ok(Some(_)) => is_left(segment, Magic::PHNX, member),
                _ => Ok(false),
            }
        });
        match removed {
            Ok(_) | Err(ServerError::Segment(SegmentError::NotFound { .. })) => {}
            Err(error) => {
                tracing::warn!(target: TARGET, %name, %error, "lanes of a dead client stay");
            }
        }
    }
}

/// Gives the records of dead members of services back, if there is no segment that they could have
/// had anything in; whose records that were. Which service's they were nobody can tell any more. Who
/// owns dead letters keeps its record: the next server of that service asks by it who lives.
pub(in crate::service) fn clear_deserted(domain: &Domain, member: &Member) -> Vec<OwnerId> {
    let table = member.processes();
    // Before the segments are looked at: who makes one and dies is none of these.
    let mut dead: Vec<Dead<OwnerId>> = table
        .processes()
        .flatten()
        .filter(|it| role::is_of_a_service(it.role))
        .filter_map(|it| table.convict(it.id).ok()?.dead())
        .collect();
    let Ok(segments) = domain.segments() else { return Vec::new() };
    for name in segments {
        let Ok(name) = name else { return Vec::new() };
        if ["service.", "bells.", "client."].iter().any(|kind| name.as_str().starts_with(kind)) {
            return Vec::new();
        }
        if name.as_str().starts_with("letters.") {
            let Ok(owner) = owner_of_letters(domain, &name) else { return Vec::new() };
            dead.retain(|one| Some(one.id()) != owner);
        }
    }
    let clear = |one| table.clear(one, member.membership()).is_ok_and(|records| records > 0);
    dead.retain(|one| clear(*one));
    clear_silent(member);
    dead.into_iter().map(Dead::id).collect()
}

/// `None` if they are nobody's, gone, or none.
fn owner_of_letters(domain: &Domain, name: &SegmentName) -> Result<Option<OwnerId>, SegmentError> {
    let found = Segment::open(domain, name, OpenOptions::new(HEADER), |segment| {
        Ok::<_, SegmentError>(layout::owner_of(&segment.region(), Magic::LETT).ok().flatten())
    });
    match found {
        Ok((_, owner)) => Ok(owner),
        Err(SegmentError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives the records back of those that died before their record said anything: they had nothing but
/// that, and whose they were to be nobody knows.
pub(super) fn clear_silent(member: &Member) {
    let table = member.processes();
    for (id, verdict) in table.verdicts().flatten() {
        // Busy: it died while it wrote its record.
        let is_silent = table.process(id).ok().flatten().is_none();
        if let Some(dead) = verdict.dead().filter(|_| is_silent) {
            let _ = table.clear(dead, member.membership());
        }
    }
}

/// Takes the names of the service's segments away: those of its owner.
pub(super) fn unlink(control: &ControlMapped, bells: &BellsMapped) {
    for segment in [&bells.segment, &control.segment] {
        match segment.unlink_own(|_| Ok::<_, SegmentError>(true)) {
            Ok(_) | Err(SegmentError::NotFound { .. }) => {}
            Err(error) => tracing::warn!(target: TARGET, %error, "a segment stays"),
        }
    }
}

fn pid_of(member: &Member, owner: OwnerId) -> Option<u32> {
    Some(member.processes().process(owner).ok()??.identity.pid)
}

/// Whether the process of a member has ended, which may be before its lock has fallen.
fn has_ended(member: &Member, owner: OwnerId) -> bool {
    let Ok(Some(process)) = member.processes().process(owner) else { return false };
    match PidFd::open(&process.identity) {
        Ok(process) => process.has_ended().unwrap_or(false),
        Err(error) => matches!(error, LivenessError::ProcessGone { .. }),
    }
}
