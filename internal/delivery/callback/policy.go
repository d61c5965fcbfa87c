package callback

import (
	"math/rand/v2"
	"time"
)

// Schedule is how long after a failed attempt the next one comes.
var Schedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// When a target is in outage, and what happens then.
const (
	// outageAfter is how long a target must have accepted nothing: a receiver
	// that starts again is back sooner.
	outageAfter = 30 * time.Second
	// outageSilent attempts in a row that nobody answered make an outage.
	outageSilent = 3
	// outageFailures attempts in a row, whatever the answers, of
	// outageDifferent deliveries make one too: fewer may be those deliveries' own
	// fault.
	outageFailures, outageDifferent = 5, 3

	firstProbe, longestProbe = 5 * time.Minute, time.Hour

	// suspectAfter failures in a row the target gets one attempt at a time, and
	// suspectPause between them.
	suspectAfter = 5
	suspectPause = time.Second
)

const (
	// longestRetryAfter is how long a receiver may ask to be left alone.
	longestRetryAfter = time.Hour
	// limitedFor is how long answers of 429 do not use up a delivery's schedule:
	// they say that the receiver is busy, not that it refuses this one.
	limitedFor = 24 * time.Hour
	// renderPause is how long a delivery waits whose body cannot be written:
	// another build may know how.
	renderPause = time.Hour
)

// policy is what decides about a failed attempt beside the target's health.
type policy struct {
	schedule     []time.Duration
	jitter       float64
	retries      *int
	subscription bool
}

// jittered spreads d evenly by a share of it to either side, so that what failed
// together does not come back together.
func (p *policy) jittered(d time.Duration) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*p.jitter*float64(d)) //nolint:gosec // chance, not secrecy
}

// Reasons of a delivery's end that a client reads.
const (
	ReasonSchedule = "every attempt failed, while the receiver accepted other deliveries"
	ReasonOnce     = "there is one attempt only"
	ReasonGone     = "the receiver answered 410"
	ReasonDisabled = "the subscription was disabled"
	ReasonErased   = "what the event tells of was erased"
	ReasonExpired  = "the event is older than the log"
	ReasonDeleted  = "the subscription was deleted"
)

// succeeded notes a success and returns, when it ends an outage, since when there
// was none: what failed from then on failed because of it.
func (h *Health) succeeded(now time.Time) (recovered time.Time) {
	if !h.OutageSince.IsZero() {
		recovered = h.Since
	}
	*h = Health{LastSuccessAt: now, LastFailureAt: h.LastFailureAt, LastCause: h.LastCause, LastStatus: h.LastStatus, NotBefore: h.NotBefore, Version: h.Version}
	return recovered
}

// failed notes a failure of an attempt that began at a time, and reports whether
// an outage begins with it. different is how many deliveries failed in a row.
func (h *Health) failed(r Result, began, now time.Time, different int) (outage bool) {
	h.Failures++
	h.Different = min(different, outageDifferent)
	if h.Silent++; r.Cause.Answered() {
		h.Silent = 0
	}
	if h.Since.IsZero() || began.Before(h.Since) {
		h.Since = began
	}
	h.LastFailureAt, h.LastCause, h.LastStatus = now, r.Cause, r.Status
	if !h.OutageSince.IsZero() || now.Sub(h.Since) < outageAfter {
		return false
	}
	if h.Silent < outageSilent && (h.Failures < outageFailures || h.Different < outageDifferent) {
		return false
	}
	h.begin(now)
	return true
}

// begin begins an outage.
func (h *Health) begin(now time.Time) {
	h.OutageSince, h.Probes, h.ProbeAt = now, 0, now.Add(firstProbe)
}

// probed notes that a probe failed.
func (h *Health) probed(p *policy, now time.Time) {
	h.Probes++
	pause := longestProbe
	if h.Probes < 5 {
		pause = min(firstProbe<<h.Probes, longestProbe)
	}
	h.ProbeAt = now.Add(p.jittered(pause))
}

// hold notes what a receiver says about itself with Retry-After, and returns when
// it may be asked again.
func (h *Health) hold(r Result, now time.Time) time.Time {
	if r.RetryAfter <= 0 {
		return time.Time{}
	}
	until := now.Add(min(r.RetryAfter, longestRetryAfter))
	if (r.Status == 429 || r.Status == 503) && until.After(h.NotBefore) {
		h.NotBefore = until
	}
	return until
}

// decide says what becomes of a delivery after a failed attempt that its Attempts,
// FirstAt and LastAt tell of already, and that Health has noted. free: the attempt
// does not use up its schedule, since the target is, or was meanwhile found to be,
// in outage.
func (p *policy) decide(d *Delivery, h *Health, r Result, free bool, now time.Time) {
	end := func(s State, reason string) {
		d.State, d.Reason, d.NextAt, d.EndedAt = s, reason, time.Time{}, now
	}
	wait := func(until time.Time) {
		if asked := h.hold(r, now); asked.After(until) {
			until = asked
		}
		d.State, d.NextAt = Waiting, until
	}
	last := len(p.schedule)
	if p.retries != nil {
		last = min(last, *p.retries)
	}
	step := d.Step + 1
	switch {
	case r.Cause == CauseGone && p.subscription:
		end(Skipped, ReasonGone)
	case r.Cause == CauseGone:
		end(GivenUp, ReasonGone)
	case d.Once || p.retries != nil && *p.retries == 0:
		h.hold(r, now)
		end(GivenUp, ReasonOnce)
	case r.Cause == CauseRender:
		wait(now.Add(renderPause))
	case free:
		wait(h.ProbeAt)
	case r.Cause == CauseLimited && now.Sub(d.FirstAt) < limitedFor:
		wait(now.Add(p.jittered(p.pause(1))))
	case step <= last:
		d.Step = step
		wait(now.Add(p.jittered(p.pause(step))))
	case r.Cause == CauseInvalid || h.LastSuccessAt.After(d.FirstAt):
		h.hold(r, now)
		end(GivenUp, ReasonSchedule)
	case step > len(p.schedule):
		// Nobody else was accepted all the while.
		if h.OutageSince.IsZero() {
			h.begin(now)
		}
		wait(h.ProbeAt)
	default: // its own limit is reached, but it is not known to be its own fault
		wait(now.Add(p.jittered(min(p.pause(d.Attempts), longestProbe))))
	}
}

// pause is the schedule's nth, or its last.
func (p *policy) pause(n int) time.Duration {
	if len(p.schedule) == 0 {
		return firstProbe
	}
	return p.schedule[min(max(n, 1), len(p.schedule))-1]
}
